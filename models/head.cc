#include "models/head.h"

#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"
#include "models/initializers.h"
#include "models/layers/dropout.h"
#include "parallel/vocabulary.h"

namespace switchyard::models {

std::unique_ptr<CrossEntropyLoss> cross_entropy(const at::Tensor& targets_T, double scale,
                                                double z_coefficient, const Rows& rows) {
  if (!rows.ranks()) return std::make_unique<CrossEntropyLoss>(targets_T, scale, z_coefficient);
  return std::make_unique<parallel::DealtCrossEntropyLoss>(targets_T, scale, z_coefficient,
                                                           *rows.ranks());
}

Head::Head(const config::Model& model, const std::optional<Norm>& norm, Parameter& weight,
           const HeadDropout& dropout)
    : norm_(norm),
      dropout_(dropout),
      divisor_(output_divisor(model)),
      scale_(model.has_output_scale() ? model.output_scale() : 1),
      weight_(&weight) {}

Head Head::with_norm(const Norm& norm) const {
  Head other = *this;
  other.norm_.emplace(norm);
  return other;
}

at::Tensor Head::hidden(const at::Tensor& x_TD, const StepContext& context) const {
  const at::Tensor normed_TD = norm_ ? norm_->forward(x_TD) : x_TD;
  at::Tensor h_TD = dropout(normed_TD, dropout_.rate, context, dropout_.stream);
  // The logits are linear in h, so that their factors can be its.
  if (divisor_ != 1) h_TD = h_TD / divisor_;
  return scale_ == 1 ? h_TD : h_TD * scale_;
}

at::Tensor Head::logits(const at::Tensor& x_TD, const StepContext& context) const {
  const at::NoGradGuard no_grad;
  const at::Tensor held_TV = vocabulary_logits(hidden(x_TD, context), *weight_);
  return context.rows.of(weight_->shape[0]).gather(held_TV.t()).t();
}

at::Tensor Head::loss(const at::Tensor& x_TD, const StepContext& context, LogitsLoss& loss) const {
  const ProfiledPart part("sy::loss");
  return vocabulary_loss(context.rows.gather(hidden(x_TD, context)), *weight_, loss);
}

}  // namespace switchyard::models
