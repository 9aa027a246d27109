#pragma once
// Dropout whose draws depend on the token, not on the layout.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/moe/context.h"

namespace switchyard::models {

// x [T, n] with each element 0 with probability `rate`, else divided by 1 - rate; x itself outside
// of training or at rate 0. Drawn by (seed, step, layer, global token, element): `layer` must
// differ between the uses of one model. recompute sees the same draws.
at::Tensor dropout(const at::Tensor& x_TN, double rate, const StepContext& context, uint32_t layer);

}  // namespace switchyard::models
