#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {

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

}  // namespace switchyard
