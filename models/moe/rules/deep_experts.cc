#include "models/moe/rules/deep_experts.h"

#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"
#include "models/layers/init.h"

namespace switchyard::models {

DeepExperts::DeepExperts(const Scope& scope, const config::Model& model) {
  const config::Moe& moe = model.moe();
  const int hidden_layers = moe.hidden_layers();
  matrices_.reserve(static_cast<size_t>(hidden_layers) + 1);
  for (int i = 0; i <= hidden_layers; ++i) {
    const bool first = i == 0, last = i == hidden_layers;
    const ExpertLinear::Sizes sizes{moe.num_experts(), last ? model.d_model() : moe.d_ff(),
                                    first ? model.d_model() : moe.d_ff(),
                                    (last ? residual_init(model) : normal_init(model)).value};
    matrices_.emplace_back(scope / "layers" / i, sizes);
  }
}

at::Tensor DeepExperts::forward(const at::Tensor& rows_RD,
                                const std::vector<int64_t>& offsets) const {
  const ProfiledPart part("sy::experts");
  at::Tensor y = rows_RD;
  for (const ExpertLinear& matrix : matrices_) {
    y = matrix.forward(&matrix == &matrices_.front() ? y : at::relu(y), offsets);
  }
  return y;
}

}  // namespace switchyard::models
