#include "optim/sgd.h"

#include "core/tensor/aten.h"

namespace switchyard::optim {

Sgd::Sgd(const config::Optimizer& options, std::span<ParameterGroup> groups)
    : Optimizer(options, groups) {
  if (options.momentum() == 0) return;
  for (const ParameterGroup& group : groups_) velocity_.push_back(at::zeros_like(group.master));
}

void Sgd::update(double learning_rate) {
  for (size_t i = 0; i < groups_.size(); ++i) {
    ParameterGroup& group = groups_[i];
    const double decay = group.decay ? options_.weight_decay() : 0;
    if (decay > 0) group.master.mul_(1 - learning_rate * decay);
    if (!velocity_.empty()) velocity_[i].mul_(options_.momentum()).add_(group.grad);
    group.master.sub_(velocity_.empty() ? group.grad : velocity_[i], learning_rate);
  }
}

std::vector<StateTensor> Sgd::state() {
  std::vector<StateTensor> state;
  for (size_t i = 0; i < velocity_.size(); ++i) {
    for (const Parameter* parameter : groups_[i].parameters) {
      state.push_back({"momentum", parameter, part_of(velocity_[i], groups_[i], *parameter)});
    }
  }
  return state;
}

}  // namespace switchyard::optim
