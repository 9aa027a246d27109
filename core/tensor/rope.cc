#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {

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

}  // namespace switchyard
