#include "models/pass/context.h"

#include <vector>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::models {

LossCoefficients coefficients_of(const config::Model& model) {
  return {coefficients_of(model.moe()), model.output_z_loss_coefficient(), model.mtp().weight()};
}

RouterLosses router_coefficients(const config::Moe& moe, const StepContext& context) {
  return context.coefficients ? context.coefficients->routers : coefficients_of(moe);
}

StepContext with_token_ids(StepContext context, const at::Tensor& tokens_BS) {
  context.token_ids_T = tokens_BS.flatten();
  return context;
}

TokenMap own_tokens(const StepContext& context) {
  return context.tokens.from(context.rows.first());
}

at::Tensor first_are_real(int64_t real, int64_t tokens) {
  return real < tokens ? at::arange(tokens, at::kLong).lt(real) : at::Tensor();
}

at::Tensor without_padding(const at::Tensor& rows, const StepContext& context) {
  if (!context.is_real_T.defined()) return rows;
  SY_CHECK(context.is_real_T.numel() == rows.size(0), "a padding mask of {} for {} tokens",
           context.is_real_T.numel(), rows.size(0));
  std::vector<int64_t> shape(rows.dim(), 1);
  shape[0] = rows.size(0);
  return rows.masked_fill(context.is_real_T.view(shape).logical_not(), 0);
}

}  // namespace switchyard::models
