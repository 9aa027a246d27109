#include "optim/adafactor.h"

#include <algorithm>
#include <cmath>

#include "core/tensor/aten.h"
#include "parallel/gradients.h"

namespace switchyard::optim {

Adafactor::Adafactor(const config::Optimizer& options, std::span<ParameterGroup> groups,
                     const parallel::Mesh& mesh)
    : Optimizer(options, groups), mesh_(&mesh) {
  for (const ParameterGroup& group : groups_) {
    for (const Parameter* parameter : group.parameters) {
      moments_.emplace_back(*parameter, options.adafactor().least_factored_dim());
    }
  }
}

void Adafactor::update(double learning_rate) {
  std::vector<Squares> squares = updates_in_place();
  sum_over_experts(squares);
  auto next = squares.begin();
  for (ParameterGroup& group : groups_) {
    for (Parameter* parameter : group.parameters) {
      apply(*parameter, group.decay, *next++, learning_rate);
    }
  }
}

// Gradients become updates.
std::vector<Adafactor::Squares> Adafactor::updates_in_place() {
  const config::Adafactor& options = options_.adafactor();
  const double decay =
      options.beta2() * (1 - std::pow(static_cast<double>(num_steps()), -options.decay_exponent()));
  std::vector<Squares> squares;
  auto moment = moments_.begin();
  for (ParameterGroup& group : groups_) {
    for (Parameter* parameter : group.parameters) {
      moment->accumulate(parameter->grad, decay, options.epsilon());
      parameter->grad.div_((moment++)->root());
      squares.push_back({parallel::sum_of_squares(parameter->grad.view(-1)),
                         parallel::sum_of_squares(parameter->master.view(-1))});
    }
  }
  return squares;
}

// **Collective** over the expert group, once for all stacks of experts together.
void Adafactor::sum_over_experts(std::vector<Squares>& squares) const {
  std::vector<double*> cut;
  auto next = squares.begin();
  for (const ParameterGroup& group : groups_) {
    for (size_t i = 0; i < group.parameters.size(); ++i, ++next) {
      if (!group.cut.contains(Axis::kExpert)) continue;
      cut.insert(cut.end(), {&next->update, &next->weight});
    }
  }
  if (cut.empty()) return;
  std::vector<double> sums;
  for (const double* value : cut) sums.push_back(*value);
  mesh_->expert().all_reduce(sums.data(), static_cast<int64_t>(sums.size()), DType::kFloat64,
                             parallel::ReduceOp::kSum, "Adafactor's mean squares");
  for (size_t i = 0; i < cut.size(); ++i) *cut[i] = sums[i];
}

void Adafactor::apply(Parameter& parameter, bool decay, const Squares& squares,
                      double learning_rate) const {
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

std::vector<StateTensor> Adafactor::state() {
  std::vector<StateTensor> state;
  for (const FactoredMoment& moment : moments_) moment.append_state(state);
  return state;
}

}  // namespace switchyard::optim
