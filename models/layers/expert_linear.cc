#include "models/layers/expert_linear.h"

#include "core/tensor/ops.h"

namespace switchyard::models {

ExpertLinear::ExpertLinear(const Scope& scope, const Sizes& sizes)
    : weight_(scope.of_experts(sizes.num_experts)
                  .matrix("weight", {sizes.out, sizes.in}, {Init::kNormal, sizes.init_std})) {}

at::Tensor ExpertLinear::forward(const at::Tensor& rows_RD,
                                 const std::vector<int64_t>& offsets) const {
  return linear_experts(rows_RD, weight_, offsets);
}

}  // namespace switchyard::models
