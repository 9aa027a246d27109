#include "optim/factored_adam.h"

#include <cmath>

#include "core/tensor/aten.h"

namespace switchyard::optim {

FactoredAdam::FactoredAdam(const config::Optimizer& options, std::span<ParameterGroup> groups)
    : Optimizer(options, groups) {
  constexpr int64_t kAlways = 1;  // factor a matrix of any size
  for (const ParameterGroup& group : groups_) {
    GroupState& state = states_.emplace_back();
    if (!group.cut.contains(Axis::kExpert)) {
      state.dense = make_moments(group);
      continue;
    }
    for (const Parameter* parameter : group.parameters)
      state.experts.emplace_back(*parameter, kAlways);
  }
}

void FactoredAdam::update(double learning_rate) {
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (states_[i].dense.first.defined()) {
      adamw_update(groups_[i], states_[i].dense, options_, learning_rate, num_steps());
    } else {
      update_experts(groups_[i], states_[i].experts, learning_rate);
    }
  }
}

// As Adam with beta1 = 0: the moment is corrected for its start at zero.
void FactoredAdam::update_experts(ParameterGroup& group, std::vector<FactoredMoment>& moments,
                                  double learning_rate) const {
  const double correction =
      std::sqrt(1 - std::pow(options_.beta2(), static_cast<double>(num_steps())));
  for (size_t i = 0; i < moments.size(); ++i) {
    Parameter& parameter = *group.parameters[i];
    moments[i].accumulate(parameter.grad, options_.beta2(), /*epsilon=*/0);
    parameter.grad.div_(moments[i].root().div_(correction).add_(options_.eps()));
    if (group.decay) parameter.master.mul_(1 - learning_rate * options_.weight_decay());
    parameter.master.sub_(parameter.grad, learning_rate);
  }
}

std::vector<StateTensor> FactoredAdam::state() {
  std::vector<StateTensor> state;
  for (size_t i = 0; i < groups_.size(); ++i) {
    if (states_[i].dense.first.defined()) {
      append_state(groups_[i], states_[i].dense, state);
    }
    for (const FactoredMoment& moment : states_[i].experts) moment.append_state(state);
  }
  return state;
}

}  // namespace switchyard::optim
