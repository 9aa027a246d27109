#include "models/layers/ffn.h"

#include <cmath>

#include <ATen/record_function.h>

#include "core/tensor/ops.h"

namespace switchyard::models {

double residual_init_std(const config::Model& model) {
  return model.scale_init_by_depth() ? model.init_std() / std::sqrt(2.0 * model.num_layers())
                                     : model.init_std();
}

SwigluFfn::SwigluFfn(const Scope& scope, const config::Model& model, int64_t d_ff)
    : w13_(scope.parameter("w13", {2 * d_ff, model.d_model()}, {Init::kNormal, model.init_std()})),
      w2_(scope.parameter("w2", {model.d_model(), d_ff},
                          {Init::kNormal, residual_init_std(model)})) {}

at::Tensor SwigluFfn::forward(const at::Tensor& x_TD) const {
  RECORD_USER_SCOPE("sy::experts");
  return swiglu_experts(x_TD, w13_, w2_, {0, x_TD.size(0)});
}

SwigluExperts::SwigluExperts(const Scope& scope, const config::Model& model, int64_t num_experts,
                             Slice held)
    : w13_(scope.expert_parameter("w13", {num_experts, 2 * model.moe().d_ff(), model.d_model()},
                                  held, {Init::kNormal, model.init_std()})),
      w2_(scope.expert_parameter("w2", {num_experts, model.d_model(), model.moe().d_ff()}, held,
                                 {Init::kNormal, residual_init_std(model)})) {}

at::Tensor SwigluExperts::forward(const at::Tensor& rows_RD,
                                  const std::vector<int64_t>& offsets) const {
  RECORD_USER_SCOPE("sy::experts");
  return swiglu_experts(rows_RD, w13_, w2_, offsets);
}

}  // namespace switchyard::models
