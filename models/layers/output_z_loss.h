#pragma once
// The output z-loss as a step asks for it.

#include "core/config/run_config.pb.h"
#include "core/tensor/ops.h"
#include "models/moe/losses/coefficients.h"

namespace switchyard::models {

// For vocabulary_loss(), its value to go to the context's statistics. Off outside of training.
inline OutputZLoss output_z_loss(const config::Model& model, const StepContext& context) {
  if (!context.training) return {};
  return {output_z_coefficient(model, context), context.output ? &context.output->z_loss : nullptr};
}

}  // namespace switchyard::models
