#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {

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

}  // namespace switchyard
