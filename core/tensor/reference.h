#pragma once
// Plain ATen twins of the hot operations: slow, differentiable by autograd in every argument, and
// the oracle of their tests. Weights are plain tensors; shapes as in core/tensor/ops.h.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/tensor/activation.h"

namespace switchyard::reference {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight);
at::Tensor embedding(const at::Tensor& ids, const at::Tensor& weight);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor activate(Activation kind, const at::Tensor& h);
// weights: in [e, F or 2F, D], out [e, D, F], then scale and shift [e, F] (may be undefined).
struct FfnTensors {
  at::Tensor in, out, scale, shift;
};
at::Tensor ffn_experts(const at::Tensor& rows, const FfnTensors& weights, Activation activation,
                       const std::vector<int64_t>& offsets, const at::Tensor& mask = {});
// Without the scale: each token's loss [T], 0 where the target is negative.
at::Tensor token_losses(const at::Tensor& hidden, const at::Tensor& weight,
                        const at::Tensor& targets);
// The same for logsumexp(logits)^2.
at::Tensor token_z(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& targets);

}  // namespace switchyard::reference
