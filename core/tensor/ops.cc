#include "core/tensor/ops.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/gemm.h"

namespace switchyard {
namespace {

// [..., n] -> [rows, n], a view where the strides allow.
at::Tensor as_matrix(const at::Tensor& x) { return x.dim() == 2 ? x : x.reshape({-1, x.size(-1)}); }

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

// `copy` of the parameter as a tensor of autograd's graph.
at::Tensor as_function_of(Parameter& parameter, const at::Tensor& copy) {
  const auto backward = [&parameter](const at::Tensor& gradient, const std::vector<bool>&) {
    parameter.grad.add_(gradient);
    return std::vector<at::Tensor>();
  };
  return differentiable("use", {}, {&parameter}, copy, backward);
}

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
  const auto of = [offsets](const at::Tensor& x, int64_t e) {
    return x.narrow(0, offsets[e], offsets[e + 1] - offsets[e]);
  };
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

at::Tensor embedding(const at::Tensor& ids, Parameter& weight) {
  SY_CHECK(ids.scalar_type() == at::kLong, "embedding {}: ids are {}, not int64", weight.name,
           at::toString(ids.scalar_type()));
  const auto backward = [ids, &weight](const at::Tensor& dy, const std::vector<bool>&) {
    device_ops(dy).add_rows(as_matrix(dy).contiguous(), ids.contiguous(), weight.grad);
    return std::vector<at::Tensor>();
  };
  return differentiable("embedding", {}, {&weight}, at::embedding(weight.value.detach(), ids),
                        backward);
}

at::Tensor rms_norm(const at::Tensor& x, Parameter& weight, double eps, NormOrder order) {
  SY_CHECK(x.scalar_type() == weight.value.scalar_type() && x.size(-1) == weight.value.numel(),
           "rms_norm {}: input {} [.., {}], weight {} [{}]", weight.name,
           at::toString(x.scalar_type()), x.size(-1), at::toString(weight.value.scalar_type()),
           weight.value.numel());
  const at::Tensor x_TD = as_matrix(x.detach()).contiguous(), weight_D = weight.value.detach();
  const DeviceOps::Normed result =
      device_ops(x).rms_norm(x_TD, weight_D, eps, order == NormOrder::kCastThenScale);
  const DeviceOps::NormInput saved{x_TD, weight_D, result.r_T};
  const auto backward = [saved, &weight](const at::Tensor& dy, const std::vector<bool>& needs) {
    const DeviceOps::NormGradients gradients =
        device_ops(dy).rms_norm_backward(as_matrix(dy).contiguous(), saved, needs[1]);
    if (needs[1]) weight.grad.add_(gradients.weight_D);
    return std::vector{gradients.x_TD.view(dy.sizes())};
  };
  return differentiable("rms_norm", {x}, {&weight}, result.y_TD.view(x.sizes()), backward);
}

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  SY_CHECK(x.dim() == 4 && x.size(3) % 2 == 0, "rope: input must be [B, S, H, even width]");
  SY_CHECK(cos.sizes() == at::IntArrayRef({x.size(1), half}) && sin.sizes() == cos.sizes(),
           "rope: the tables must be [{}, {}]", x.size(1), half);
  const at::TensorOptions exact = x.options().dtype(exact_type(x.scalar_type()));
  const at::Tensor cosine = cos.to(exact).contiguous(), sine = sin.to(exact).contiguous();
  const auto backward = [cosine, sine](const at::Tensor& dy, const std::vector<bool>&) {
    return std::vector{device_ops(dy).rotate(dy, cosine, -sine)};
  };
  return differentiable("rope", {x}, device_ops(x).rotate(x.detach(), cosine, sine), backward);
}

at::Tensor use(Parameter& parameter, at::ScalarType type) {
  return as_function_of(parameter, parameter.value.detach().to(type));
}

at::Tensor use_master(Parameter& parameter, at::ScalarType type) {
  return as_function_of(parameter, parameter.master.detach().to(type));
}

}  // namespace switchyard
