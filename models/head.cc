#include "models/head.h"

#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"
#include "models/initializers.h"
#include "models/layers/dropout.h"

namespace switchyard::models {

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
  return vocabulary_logits(hidden(x_TD, context), *weight_);
}

at::Tensor Head::loss(const at::Tensor& x_TD, const StepContext& context, LogitsLoss& loss) const {
  const ProfiledPart part("sy::loss");
  return vocabulary_loss(hidden(x_TD, context), *weight_, loss);
}

}  // namespace switchyard::models
