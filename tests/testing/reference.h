#pragma once
// References of the hot operations, written differently from both the plain and the fast ones: slow
// ATen on plain tensors, differentiable by autograd in every argument. Shapes as in
// core/tensor/ops.h.

#include <cstdint>
#include <vector>

#include "core/tensor/activation.h"
#include "core/tensor/aten.h"

namespace switchyard::reference {

inline at::ScalarType exact_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

inline at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::matmul(x, weight.t());
}

inline at::Tensor embedding(const at::Tensor& ids, const at::Tensor& weight) {
  std::vector<int64_t> shape = ids.sizes().vec();
  shape.push_back(weight.size(1));
  return weight.index_select(0, ids.reshape({-1})).view(shape);
}

inline at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor exact = x.to(exact_type(x));
  const at::Tensor r = (exact.square().mean(-1, true) + eps).rsqrt();
  return (exact * r * weight).to(x.scalar_type());
}

inline at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const std::vector<at::Tensor> halves = x.to(exact_type(x)).chunk(2, -1);
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);  // [S, 1, d/2]
  const at::Tensor first = halves[0] * c - halves[1] * s, second = halves[1] * c + halves[0] * s;
  return at::concat({first, second}, -1).to(x.scalar_type());
}

inline at::Tensor activate(Activation kind, const at::Tensor& h) {
  const std::vector<at::Tensor> halves = h.chunk(2, -1);
  switch (kind) {
    case Activation::kSwiglu:
      return at::silu(halves[0]) * halves[1];
    case Activation::kGeglu:
      return at::gelu(halves[0]) * halves[1];
    case Activation::kGegluTanh:
      return at::gelu(halves[0], "tanh") * halves[1];
    case Activation::kReglu:
      return at::relu(halves[0]) * halves[1];
    case Activation::kRelu:
      return at::relu(h);
    case Activation::kGelu:
      return at::gelu(h);
    case Activation::kSquaredRelu:
      return at::relu(h).square();
  }
  return {};
}

// weights: in [e, F or 2F, D], out [e, D, F], then scale and shift [e, F] (may be undefined).
struct FfnTensors {
  at::Tensor in, out, scale, shift;
};
inline at::Tensor ffn_experts(const at::Tensor& rows, const FfnTensors& weights,
                              Activation activation, const std::vector<int64_t>& offsets,
                              const at::Tensor& mask = {}) {
  std::vector<at::Tensor> outputs;
  for (int64_t expert = 0; expert < weights.in.size(0); ++expert) {
    const int64_t begin = offsets[expert], count = offsets[expert + 1] - begin;
    const at::Tensor x = rows.narrow(0, begin, count);
    at::Tensor hidden = activate(activation, at::matmul(x, weights.in[expert].t()));
    if (weights.scale.defined()) hidden = hidden * weights.scale[expert];
    if (weights.shift.defined()) hidden = hidden + weights.shift[expert];
    if (mask.defined()) hidden = hidden * mask.narrow(0, begin, count);
    outputs.push_back(at::matmul(hidden, weights.out[expert].t()));
  }
  return at::concat(outputs);
}

// Without the scale: each token's loss [T], 0 where the target is negative.
inline at::Tensor token_losses(const at::Tensor& hidden, const at::Tensor& weight,
                               const at::Tensor& targets) {
  const at::Tensor logits = at::matmul(hidden, weight.t()).to(exact_type(hidden));
  const at::Tensor log_probabilities = at::log_softmax(logits, -1);
  const at::Tensor picked =
      log_probabilities.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
  return at::where(targets.ge(0), -picked, at::zeros_like(picked));
}

// The same for logsumexp(logits)^2.
inline at::Tensor token_z(const at::Tensor& hidden, const at::Tensor& weight,
                          const at::Tensor& targets) {
  const at::Tensor logits = at::matmul(hidden, weight.t()).to(exact_type(hidden));
  const at::Tensor z = logits.logsumexp(-1).square();
  return at::where(targets.ge(0), z, at::zeros_like(z));
}

}  // namespace switchyard::reference
