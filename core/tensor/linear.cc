#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/tensor/gemm.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& value,
                            Parameter* weight) {
    save_parameter(context, "weight", *weight);
    if (value.requires_grad()) context->save_for_backward({x});
    std::vector<int64_t> shape = x.sizes().vec();
    shape.back() = value.size(0);
    at::Tensor y = at::empty(shape, x.options());
    matmul(as_matrix(x), value.t(), as_matrix(y));
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    Parameter& weight = saved_parameter(context, "weight");
    const at::Tensor dy = as_matrix(gradients[0]);
    if (context->needs_input_grad(1)) {
      matmul(dy.t(), as_matrix(context->get_saved_variables()[0]), weight.grad, true);
    }
    at::Tensor dx;
    if (context->needs_input_grad(0)) {
      std::vector<int64_t> shape = gradients[0].sizes().vec();
      shape.back() = weight.value.size(1);
      dx = at::empty(shape, dy.options());
      matmul(dy, weight.value.detach(), as_matrix(dx));
    }
    return {dx, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, Parameter& weight) {
  SY_CHECK(x.dim() >= 1 && x.size(-1) == weight.value.size(1),
           "linear {}: input has {} features, the weight {}", weight.name, x.size(-1),
           weight.value.size(1));
  return Linear::apply(x, weight.value, &weight);
}

}  // namespace switchyard
