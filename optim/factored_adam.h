#pragma once
// Adam for models whose experts hold nearly all parameters (Shazeer et al., 2017, appendix D):
// AdamW everywhere but in experts, which have no first moment (beta1 = 0) and a factored second
// one, so that their state is a few numbers per row and column.

#include <vector>

#include "optim/adamw.h"
#include "optim/factored_moment.h"

namespace switchyard::optim {

class FactoredAdam final : public Optimizer {
 public:
  FactoredAdam(const config::Optimizer& options, std::span<ParameterGroup> groups);

  std::vector<StateTensor> state() override;

 private:
  // The state of one group: one of the two.
  struct GroupState {
    Moments dense;
    std::vector<FactoredMoment> experts;  // one per parameter
  };

  void update(double learning_rate) override;
  void update_experts(ParameterGroup& group, std::vector<FactoredMoment>& moments,
                      double learning_rate) const;

  std::vector<GroupState> states_;
};

}  // namespace switchyard::optim
