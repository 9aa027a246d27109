#pragma once
// The output z-loss as a step asks for it.

#include "core/config/run_config.pb.h"
#include "core/tensor/ops.h"
#include "models/pass/coefficients.h"

namespace switchyard::models {

// For vocabulary_loss(), which adds the loss's value to the context's sum "output_z". Off outside
// of training.
inline OutputZLoss output_z_loss(const config::Model& model, const StepContext& context) {
  const double coefficient = context.training ? output_z_coefficient(model, context) : 0;
  if (coefficient == 0 || !context.sums) return {coefficient, nullptr};
  return {coefficient, &(*context.sums)["output_z"].total};
}

}  // namespace switchyard::models
