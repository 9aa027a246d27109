// Adafactor (Shazeer and Stern, 2018) as T5, GShard, Switch, GLaM and ST-MoE use it: no first
// moment, a factored second one, updates clipped by their root mean square, rates relative to the
// parameter's. For update t of a parameter w with gradient g:
//   V <- b V + (1 - b) (g^2 + epsilon),  b = beta2 (1 - t^-decay_exponent)
//   u = g / sqrt(V);  u <- u / max(1, rms(u) / update_clip)
//   w <- w - rate * max(least_scale, rms(w)) * u
// A matrix that is stored fused (queries, keys and values; w1 and w3) is one parameter. So is a
// stack of experts: its root mean squares are over all experts, those of other ranks included, as
// in Mesh-TensorFlow, where it is one variable.

#include <algorithm>
#include <cmath>

#include "core/tensor/aten.h"
#include "optim/factored_moment.h"
#include "parallel/gradients.h"

namespace switchyard::optim {
namespace {

// Sums of squares of one parameter's update and weights.
struct Squares {
  double update = 0, weight = 0;
};

class Adafactor final : public Optimizer {
 public:
  Adafactor(const config::Optimizer& options, std::span<ParameterGroup> groups,
            const parallel::Mesh& mesh)
      : Optimizer(options, groups, mesh) {
    for (const ParameterGroup& group : groups_) {
      for (const Parameter* parameter : group.parameters)
        moments_.emplace_back(*parameter, options.adafactor().least_factored_dim(), mesh);
    }
  }

  std::vector<StateTensor> state() override {
    std::vector<StateTensor> state;
    for (const FactoredMoment& moment : moments_) moment.append_state(state);
    return state;
  }

 private:
  void update(double learning_rate) override {
    std::vector<Squares> squares = updates_in_place();
    for (const Axis axis : kAllAxes) sum_over(axis, squares);
    auto next = squares.begin();
    for (ParameterGroup& group : groups_) {
      for (Parameter* parameter : group.parameters)
        apply(*parameter, group.decay, *next++, learning_rate);
    }
  }

  // Gradients become updates.
  std::vector<Squares> updates_in_place() {
    const config::Adafactor& options = options_.adafactor();
    const double decay = options.beta2() * (1 - std::pow(static_cast<double>(num_steps()),
                                                         -options.decay_exponent()));
    std::vector<Squares> squares;
    auto moment = moments_.begin();
    for (ParameterGroup& group : groups_) {
      for (Parameter* parameter : group.parameters) {
        FactoredMoment& own = *moment++;
        Squares& sums = squares.emplace_back();
        if (!parameter->master.defined()) continue;  // another rank's
        own.accumulate(parameter->grad, decay, options.epsilon());
        parameter->grad.div_(own.root());
        sums = {parallel::sum_of_squares(parameter->grad.view(-1)),
                parallel::sum_of_squares(parameter->master.view(-1))};
      }
    }
    return squares;
  }

  // **Collective** over the axis, once for all parameters together that are cut over it.
  void sum_over(Axis axis, std::vector<Squares>& squares) const {
    std::vector<double*> cut;
    auto next = squares.begin();
    for (const ParameterGroup& group : groups_) {
      for (size_t i = 0; i < group.parameters.size(); ++i, ++next) {
        if (group.cut.contains(axis)) cut.insert(cut.end(), {&next->update, &next->weight});
      }
    }
    if (cut.empty()) return;
    std::vector<double> sums;
    for (const double* value : cut) sums.push_back(*value);
    mesh_->along(axis).all_reduce(std::span(sums), parallel::ReduceOp::kSum,
                                  "Adafactor's mean squares");
    for (size_t i = 0; i < cut.size(); ++i) *cut[i] = sums[i];
  }

  void apply(Parameter& parameter, bool decay, const Squares& squares, double learning_rate) const {
    if (!parameter.master.defined()) return;  // another rank's
    const config::Adafactor& options = options_.adafactor();
    double count = 1;
    for (const int64_t size : parameter.shape) count *= static_cast<double>(size);
    const double update_rms = std::sqrt(squares.update / count);
    const double weight_rms = std::sqrt(squares.weight / count);
    double rate = learning_rate / std::max(1.0, update_rms / options.update_clip());
    if (options.scale_by_parameter()) rate *= std::max(options.least_scale(), weight_rms);
    if (decay) parameter.master.mul_(1 - learning_rate * options_.weight_decay());
    parameter.master.sub_(parameter.grad, rate);
  }

  std::vector<FactoredMoment> moments_;  // one per parameter, group by group
};

}  // namespace

std::unique_ptr<Optimizer> make_adafactor(const config::Optimizer& options,
                                          std::span<ParameterGroup> groups,
                                          const parallel::Mesh& mesh) {
  return std::make_unique<Adafactor>(options, groups, mesh);
}

}  // namespace switchyard::optim
