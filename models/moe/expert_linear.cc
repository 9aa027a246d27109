#include "models/moe/expert_linear.h"

#include "core/tensor/aten.h"

namespace switchyard::models {

ExpertLinear::ExpertLinear(const Scope& scope, const Sizes& sizes, Slice held)
    : weight_(scope.expert_parameter("weight", {sizes.num_experts, sizes.out, sizes.in}, held,
                                     {Init::kNormal, sizes.init_std})) {}

at::Tensor ExpertLinear::forward(const at::Tensor& rows_RD,
                                 const std::vector<int64_t>& offsets) const {
  const std::vector<at::Tensor> weights = use(weight_, rows_RD.scalar_type()).unbind(0);
  std::vector<at::Tensor> parts;
  for (size_t e = 0; e < weights.size(); ++e) {
    const at::Tensor rows = rows_RD.narrow(0, offsets[e], offsets[e + 1] - offsets[e]);
    parts.push_back(at::mm(rows, weights[e].t()));
  }
  return at::concat(parts);
}

}  // namespace switchyard::models
