#include "optim/adamw.h"

#include <ATen/ops/_fused_adamw.h>

#include "core/tensor/aten.h"

namespace switchyard::optim {

Moments make_moments(const ParameterGroup& group) {
  return {at::zeros_like(group.master), at::zeros_like(group.master)};
}

void adamw_update(ParameterGroup& group, Moments& moments, const config::Optimizer& options,
                  double learning_rate, int64_t step) {
  const at::Tensor steps = at::full({}, static_cast<double>(step), at::kFloat);
  at::_fused_adamw_(group.master, group.grad, moments.first, moments.second, {}, steps,
                    learning_rate, options.beta1(), options.beta2(),
                    group.decay ? options.weight_decay() : 0.0, options.eps(),
                    /*amsgrad=*/false, /*maximize=*/false);
}

void append_state(const ParameterGroup& group, const Moments& moments,
                  std::vector<StateTensor>& state) {
  for (const auto& [kind, flat] :
       {std::pair{"first_moment", moments.first}, std::pair{"second_moment", moments.second}}) {
    for (const Parameter* parameter : group.parameters) {
      state.push_back({kind, parameter, part_of(flat, group, *parameter)});
    }
  }
}

AdamW::AdamW(const config::Optimizer& options, std::span<ParameterGroup> groups)
    : Optimizer(options, groups) {
  for (const ParameterGroup& group : groups_) moments_.push_back(make_moments(group));
}

void AdamW::update(double learning_rate) {
  for (size_t i = 0; i < groups_.size(); ++i) {
    adamw_update(groups_[i], moments_[i], options_, learning_rate, num_steps());
  }
}

std::vector<StateTensor> AdamW::state() {
  std::vector<StateTensor> state;
  for (size_t i = 0; i < groups_.size(); ++i) append_state(groups_[i], moments_[i], state);
  return state;
}

}  // namespace switchyard::optim
