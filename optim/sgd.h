#pragma once
// Gradient descent, with momentum if asked: v <- momentum v + g, weights <- weights - rate v.
// Weight decay is decoupled, as in AdamW.

#include <vector>

#include "optim/optimizer.h"

namespace switchyard::optim {

class Sgd final : public Optimizer {
 public:
  Sgd(const config::Optimizer& options, std::span<ParameterGroup> groups);

  // `momentum` of each parameter; nothing without momentum.
  std::vector<StateTensor> state() override;

 private:
  void update(double learning_rate) override;

  std::vector<at::Tensor> velocity_;  // of each group, flat; empty without momentum
};

}  // namespace switchyard::optim
