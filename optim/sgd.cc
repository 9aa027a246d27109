// Gradient descent, with momentum if asked: v <- momentum v + g, weights <- weights - rate v.
// Weight decay is decoupled, as in AdamW.

#include "core/tensor/aten.h"
#include "optim/optimizer.h"

namespace switchyard::optim {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(const config::Optimizer& options, std::span<ParameterGroup> groups,
      const parallel::Mesh& mesh)
      : Optimizer(options, groups, mesh) {
    if (options.momentum() == 0) return;
    for (const ParameterGroup& group : groups_) velocity_.push_back(zeros_beside(group));
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
      const ParameterGroup& group = groups_[i];
      const double decay = group.decay ? options_.weight_decay() : 0;
      for (size_t j = 0; j < group.owned.size(); ++j) {
        const at::Tensor& master = group.owned[j].values;
        at::Tensor move = group.gradient_of(group.owned[j]);
        if (!velocity_.empty()) {
          const at::Tensor& velocity = velocity_[i][j].values;
          move = velocity.mul_(options_.momentum()).add_(move);
        }
        if (decay > 0) master.mul_(1 - learning_rate * decay);
        master.sub_(move, learning_rate);
      }
    }
  }

  std::vector<std::vector<Stretch>> velocity_;  // of each group; empty without momentum
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const config::Optimizer& options,
                                    std::span<ParameterGroup> groups, const parallel::Mesh& mesh) {
  return std::make_unique<Sgd>(options, groups, mesh);
}

}  // namespace switchyard::optim
