#pragma once
// Adafactor (Shazeer and Stern, 2018) as T5, GShard, Switch, GLaM and ST-MoE use it: no first
// moment, a factored second one, updates clipped by their root mean square, rates relative to the
// parameter's. For update t of a parameter w with gradient g:
//   V <- b V + (1 - b) (g^2 + epsilon),  b = beta2 (1 - t^-decay_exponent)
//   u = g / sqrt(V);  u <- u / max(1, rms(u) / update_clip)
//   w <- w - rate * max(least_scale, rms(w)) * u
// A matrix that is stored fused (queries, keys and values; w1 and w3) is one parameter. So is a
// stack of experts: its root mean squares are over all experts, those of other ranks included, as
// in Mesh-TensorFlow, where it is one variable.

#include <vector>

#include "optim/factored_moment.h"

namespace switchyard::optim {

class Adafactor final : public Optimizer {
 public:
  Adafactor(const config::Optimizer& options, std::span<ParameterGroup> groups,
            const parallel::Mesh& mesh);

  std::vector<StateTensor> state() override;

 private:
  // Sums of squares of one parameter's update and weights.
  struct Squares {
    double update = 0, weight = 0;
  };

  void update(double learning_rate) override;
  std::vector<Squares> updates_in_place();
  void sum_over_experts(std::vector<Squares>& squares) const;
  void apply(Parameter& parameter, bool decay, const Squares& squares, double learning_rate) const;

  const parallel::Mesh* mesh_;
  std::vector<FactoredMoment> moments_;  // one per parameter, group by group
};

}  // namespace switchyard::optim
