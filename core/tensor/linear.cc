#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/gemm.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

// The gradient of x; the weight's is accumulated in place.
at::Tensor linear_backward(const at::Tensor& dy, const at::Tensor& x, Parameter& weight,
                           const std::vector<bool>& needs) {
  const at::Tensor dy_rows = as_matrix(dy);
  if (needs[1]) matmul(dy_rows.t(), as_matrix(x), weight.grad, true);
  if (!needs[0]) return {};
  std::vector<int64_t> shape = dy.sizes().vec();
  shape.back() = weight.value.size(1);
  at::Tensor dx = at::empty(shape, dy.options());
  matmul(dy_rows, weight.value.detach(), as_matrix(dx));
  return dx;
}

struct ExpertRows {
  std::vector<int64_t> offsets;

  at::Tensor operator()(const at::Tensor& rows, int64_t e) const {
    return rows.narrow(0, offsets[e], offsets[e + 1] - offsets[e]);
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, Parameter& weight) {
  SY_CHECK(x.dim() >= 1 && x.size(-1) == weight.value.size(1),
           "linear {}: input has {} features, the weight {}", weight.name, x.size(-1),
           weight.value.size(1));
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.value.size(0);
  const at::Tensor y = at::empty(shape, x.options());
  matmul(as_matrix(x.detach()), weight.value.detach().t(), as_matrix(y));
  const auto backward = [saved = weight.trains ? x.detach() : at::Tensor(), &weight](
                            const at::Tensor& dy, const std::vector<bool>& needs) {
    return std::vector{linear_backward(dy, saved, weight, needs)};
  };
  return differentiable("linear", {x}, {&weight}, y, backward);
}

at::Tensor linear_experts(const at::Tensor& rows, Parameter& weight,
                          const std::vector<int64_t>& offsets) {
  SY_CHECK(rows.dim() == 2 && weight.value.dim() == 3 && rows.size(1) == weight.value.size(2),
           "linear {}: input has {} features, the weight {}", weight.name, rows.size(-1),
           weight.value.size(-1));
  const ExpertRows of{offsets};
  const at::Tensor x = rows.detach(), w = weight.value.detach();
  const at::Tensor y = at::empty({rows.size(0), w.size(1)}, rows.options());
  for (int64_t e = 0; e < w.size(0); ++e) matmul(of(x, e), w[e].t(), of(y, e));
  const auto backward = [x, w, of, &weight](const at::Tensor& dy_any,
                                            const std::vector<bool>& needs) {
    const at::Tensor dy = dy_any.contiguous();
    const at::Tensor dx = needs[0] ? at::empty(x.sizes(), dy.options()) : at::Tensor();
    for (int64_t e = 0; e < w.size(0); ++e) {
      if (needs[1]) matmul(of(dy, e).t(), of(x, e), weight.grad[e], true);
      if (needs[0]) matmul(of(dy, e), w[e], of(dx, e));
    }
    return std::vector{dx};
  };
  return differentiable("linear_experts", {rows}, {&weight}, y, backward);
}

}  // namespace switchyard
