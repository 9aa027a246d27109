#pragma once
// The step whose dropout is tested.

#include <cstdint>

#include "models/moe/context.h"

namespace switchyard::models {

// Of tokens from this one on.
inline StepContext training_from(int64_t first_token) {
  StepContext context;
  context.training = true;
  context.seed = 3;
  context.step = 7;
  context.first_token = first_token;
  return context;
}

}  // namespace switchyard::models
