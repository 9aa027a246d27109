#include "models/next_token.h"

#include "core/tensor/aten.h"
#include "core/tensor/vocabulary_loss.h"

namespace switchyard::models {
namespace {

LossCoefficients coefficients_in(const TextModel& model, const StepContext& context) {
  return context.coefficients.value_or(coefficients_of(model.config()));
}

// The loss of multi-token prediction, times its weight.
at::Tensor mtp_loss(const TextModel& model, const at::Tensor& x_TD, const TokenBatch& batch,
                    const Pass& pass, double scale) {
  const NextTokens tokens = next_tokens(batch);
  Pass ahead = pass;
  ahead.context = with_token_ids(pass.context, tokens.next_BS);
  const at::Tensor next_TD = model.embedding().forward(ahead.context, /*stream=*/0);
  const at::Tensor ahead_TD = model.mtp()->forward(x_TD, next_TD, ahead);
  const double weight = coefficients_in(model, pass.context).mtp;
  const auto after_next =
      cross_entropy(tokens.targets_BS.flatten(), scale * weight, 0, pass.context.rows);
  const at::Tensor loss =
      model.head().with_norm(model.mtp()->final_norm()).loss(ahead_TD, ahead.context, *after_next);
  if (pass.context.sums) (*pass.context.sums)["mtp"] += {loss.item<double>() / weight};
  return loss;
}

}  // namespace

at::Tensor next_token_loss(const TextModel& model, const at::Tensor& x_TD, const TokenBatch& batch,
                           const Pass& pass, double scale) {
  const StepContext& context = pass.context;
  const double z = context.training ? coefficients_in(model, context).output_z : 0;
  const auto next = cross_entropy(batch.targets_BS.flatten(), scale, z, context.rows);
  const at::Tensor loss = model.head().loss(x_TD, context, *next);
  if (context.sums && z > 0) (*context.sums)["output_z"] += {next->z().item<double>()};
  if (!model.mtp() || !context.training) return loss;
  const at::Tensor ahead = mtp_loss(model, x_TD, batch, pass, scale);
  return loss + (ahead - ahead.detach());  // the gradient without the value
}

at::Tensor next_token_losses(const TextModel& model, const at::Tensor& x_TD,
                             const TokenBatch& batch, const Pass& pass) {
  const at::NoGradGuard no_grad;
  const auto loss = cross_entropy(batch.targets_BS.flatten(), /*scale=*/1, /*z_coefficient=*/0,
                                  pass.context.rows);
  model.head().loss(x_TD, pass.context, *loss);
  return loss->losses();
}

}  // namespace switchyard::models
