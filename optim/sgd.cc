// Gradient descent, with momentum if asked: v <- momentum v + g, weights <- weights - rate v.
// Weight decay is decoupled, as in AdamW.

#include "core/tensor/aten.h"
#include "optim/optimizer.h"

namespace switchyard::optim {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(const config::Optimizer& options, std::span<ParameterGroup> groups)
      : Optimizer(options, groups) {
    if (options.momentum() == 0) return;
    for (const ParameterGroup& group : groups_) velocity_.push_back(at::zeros_like(group.master));
  }

  std::vector<StateTensor> state() override {
    std::vector<StateTensor> state;
    for (size_t i = 0; i < velocity_.size(); ++i)
      append_parts("momentum", velocity_[i], groups_[i], state);
    return state;
  }

 private:
  void update(double learning_rate) override {
    for (size_t i = 0; i < groups_.size(); ++i) {
      ParameterGroup& group = groups_[i];
      const double decay = group.decay ? options_.weight_decay() : 0;
      if (decay > 0) group.master.mul_(1 - learning_rate * decay);
      if (!velocity_.empty()) velocity_[i].mul_(options_.momentum()).add_(group.grad);
      group.master.sub_(velocity_.empty() ? group.grad : velocity_[i], learning_rate);
    }
  }

  std::vector<at::Tensor> velocity_;  // of each group, flat; empty without momentum
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const config::Optimizer& options,
                                    std::span<ParameterGroup> groups) {
  return std::make_unique<Sgd>(options, groups);
}

}  // namespace switchyard::optim
