#include "core/tensor/reference.h"

#include <ATen/ATen.h>

namespace switchyard::reference {
namespace {

at::ScalarType exact_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::matmul(x, weight.t());
}

at::Tensor embedding(const at::Tensor& ids, const at::Tensor& weight) {
  std::vector<int64_t> shape = ids.sizes().vec();
  shape.push_back(weight.size(1));
  return weight.index_select(0, ids.reshape({-1})).view(shape);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  const at::Tensor exact = x.to(exact_type(x));
  const at::Tensor r = (exact.square().mean(-1, true) + eps).rsqrt();
  return (exact * r * weight).to(x.scalar_type());
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const std::vector<at::Tensor> halves = x.to(exact_type(x)).chunk(2, -1);
  const at::Tensor c = cos.unsqueeze(1), s = sin.unsqueeze(1);  // [S, 1, d/2]
  const at::Tensor first = halves[0] * c - halves[1] * s, second = halves[1] * c + halves[0] * s;
  return at::cat({first, second}, -1).to(x.scalar_type());
}

at::Tensor swiglu_experts(const at::Tensor& rows, const at::Tensor& w13, const at::Tensor& w2,
                          const std::vector<int64_t>& offsets) {
  std::vector<at::Tensor> outputs;
  for (int64_t expert = 0; expert < w13.size(0); ++expert) {
    const at::Tensor x = rows.narrow(0, offsets[expert], offsets[expert + 1] - offsets[expert]);
    const std::vector<at::Tensor> h = at::matmul(x, w13[expert].t()).chunk(2, -1);
    outputs.push_back(at::matmul(at::silu(h[0]) * h[1], w2[expert].t()));
  }
  return at::cat(outputs);
}

at::Tensor token_losses(const at::Tensor& hidden, const at::Tensor& weight,
                        const at::Tensor& targets) {
  const at::Tensor logits = at::matmul(hidden, weight.t()).to(exact_type(hidden));
  const at::Tensor log_probabilities = at::log_softmax(logits, -1);
  const at::Tensor picked =
      log_probabilities.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
  return at::where(targets.ge(0), -picked, at::zeros_like(picked));
}

}  // namespace switchyard::reference
