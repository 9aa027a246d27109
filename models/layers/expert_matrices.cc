#include "models/layers/expert_matrices.h"

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"
#include "models/layers/init.h"

namespace switchyard::models {

ExpertMatrices::ExpertMatrices(const Scope& scope, const config::Model& model,
                               const Projection& projection)
    : matrices_{&scope.of_experts(model.moe().num_experts())
                     .matrix("weight", {projection.width, model.d_model()},
                             {Init::kNormal, projection.init_std})} {}

ExpertMatrices::ExpertMatrices(const Scope& scope, const config::Model& model) {
  const Scope layers = scope.of_experts(model.moe().num_experts()) / "layers";
  const int64_t d_model = model.d_model(), d_ff = model.moe().d_ff();
  for (int i = 0; i < model.moe().hidden_layers(); ++i) {
    matrices_.push_back(
        &(layers / i).matrix("weight", {d_ff, i == 0 ? d_model : d_ff}, normal_init(model)));
  }
  matrices_.push_back(&(layers / model.moe().hidden_layers())
                           .matrix("weight", {d_model, d_ff}, residual_init(model)));
}

at::Tensor ExpertMatrices::forward(const at::Tensor& rows_RD,
                                   const std::vector<int64_t>& offsets) const {
  const ProfiledPart part("sy::experts");
  at::Tensor y = linear_experts(rows_RD, *matrices_.front(), offsets);
  for (size_t i = 1; i < matrices_.size(); ++i) {
    y = linear_experts(at::relu(y), *matrices_[i], offsets);
  }
  return y;
}

}  // namespace switchyard::models
