#pragma once
// The step whose dropout is tested.

#include <cstdint>

#include "models/pass/context.h"

namespace switchyard::models {

// Of tokens from this one on.
inline StepContext training_from(int64_t first_token) {
  StepContext context;
  context.training = true;
  context.key.seed = 3;
  context.key.step = 7;
  context.tokens = TokenMap(first_token);
  return context;
}

}  // namespace switchyard::models
