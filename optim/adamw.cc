#include "optim/adamw.h"

#include <ATen/ATen.h>
#include <ATen/ops/_fused_adamw.h>

namespace switchyard::optim {

AdamW::AdamW(const config::Optimizer& options, std::vector<ParameterGroup>& groups)
    : options_(options), groups_(groups) {
  for (const ParameterGroup& group : groups_) {
    first_.push_back(at::zeros_like(group.master));
    second_.push_back(at::zeros_like(group.master));
  }
}

double AdamW::clip_factor(double gradient_norm) const {
  const double limit = options_.clip_norm();
  return limit > 0 && gradient_norm > limit ? limit / gradient_norm : 1.0;
}

void AdamW::step(double learning_rate, double gradient_norm) {
  const at::NoGradGuard no_grad;
  const double factor = clip_factor(gradient_norm);
  const at::Tensor steps = at::full({}, static_cast<double>(++num_steps_), at::kFloat);
  for (size_t i = 0; i < groups_.size(); ++i) {
    ParameterGroup& group = groups_[i];
    if (factor != 1.0) group.grad.mul_(factor);
    at::_fused_adamw_(group.master, group.grad, first_[i], second_[i], {}, steps, learning_rate,
                      options_.beta1(), options_.beta2(),
                      group.decay ? options_.weight_decay() : 0.0, options_.eps(),
                      /*amsgrad=*/false, /*maximize=*/false);
    group.refresh_value();
  }
}

}  // namespace switchyard::optim
