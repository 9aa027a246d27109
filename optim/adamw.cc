// AdamW (Loshchilov and Hutter, 2019) on the flat buffers of the parameter groups, as far as this
// rank owns them.
//
// ADAM_FACTORED_EXPERTS, for models whose experts hold nearly all parameters (Shazeer et al., 2017,
// appendix D), treats experts in another way: they have no first moment (beta1 = 0) and a factored
// second one, so that their state is a few numbers per row and column.

#include <cmath>

#include <ATen/ops/_fused_adamw.h>

#include "core/tensor/aten.h"
#include "optim/factored_moment.h"

namespace switchyard::optim {
namespace {

// The moments of a group: two of them beside its masters, or one per parameter.
struct Moments {
  std::vector<Stretch> first, second;
  std::vector<FactoredMoment> factored;
};

class AdamW final : public Optimizer {
 public:
  AdamW(const config::Optimizer& options, std::span<ParameterGroup> groups,
        const parallel::Mesh& mesh)
      : Optimizer(options, groups, mesh) {
    constexpr int64_t kAlways = 1;  // factor a matrix of any size
    for (const ParameterGroup& group : groups_) {
      Moments& moments = moments_.emplace_back();
      if (options.kind() == config::ADAM_FACTORED_EXPERTS && group.cut.contains(Axis::kExpert)) {
        for (const Parameter* parameter : group.parameters)
          moments.factored.emplace_back(*parameter, kAlways, mesh);
      } else {
        moments.first = zeros_beside(group);
        moments.second = zeros_beside(group);
      }
    }
  }

  std::vector<StateTensor> state() override {
    std::vector<StateTensor> state;
    for (size_t i = 0; i < groups_.size(); ++i) {
      const auto& [first, second, factored] = moments_[i];
      if (factored.empty()) {
        append_parts("first_moment", first, groups_[i], state);
        append_parts("second_moment", second, groups_[i], state);
      }
      for (const FactoredMoment& moment : factored) moment.append_state(state);
    }
    return state;
  }

 private:
  void update(double learning_rate) override {
    for (size_t i = 0; i < groups_.size(); ++i) {
      const double decay = groups_[i].decay ? options_.weight_decay() : 0.0;
      if (moments_[i].factored.empty()) {
        update_flat(groups_[i], moments_[i], learning_rate, decay);
      } else {
        update_factored(groups_[i], moments_[i], learning_rate, decay);
      }
    }
  }

  void update_flat(ParameterGroup& group, Moments& moments, double learning_rate,
                   double decay) const {
    const at::Tensor step = at::full({}, static_cast<double>(num_steps()), at::kFloat);
    for (size_t i = 0; i < group.owned.size(); ++i) {
      at::_fused_adamw_(group.owned[i].values, group.gradient_of(group.owned[i]),
                        moments.first[i].values, moments.second[i].values, {}, step, learning_rate,
                        options_.beta1(), options_.beta2(), decay, options_.eps(),
                        /*amsgrad=*/false, /*maximize=*/false);
    }
  }

  // As Adam with beta1 = 0: the moment is corrected for its start at zero.
  void update_factored(ParameterGroup& group, Moments& moments, double learning_rate,
                       double decay) const {
    const double correction =
        std::sqrt(1 - std::pow(options_.beta2(), static_cast<double>(num_steps())));
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      Parameter& parameter = *group.parameters[i];
      if (!parameter.master.defined()) continue;  // another rank's
      FactoredMoment& moment = moments.factored[i];
      moment.accumulate(parameter.grad, options_.beta2(), /*epsilon=*/0);
      parameter.grad.div_(moment.root().div_(correction).add_(options_.eps()));
      if (group.decay) parameter.master.mul_(1 - learning_rate * decay);
      parameter.master.sub_(parameter.grad, learning_rate);
    }
  }

  std::vector<Moments> moments_;  // by group
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const config::Optimizer& options,
                                      std::span<ParameterGroup> groups,
                                      const parallel::Mesh& mesh) {
  return std::make_unique<AdamW>(options, groups, mesh);
}

}  // namespace switchyard::optim
