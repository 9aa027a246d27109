#include "models/moe/rules/selection_bias.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
void update_selection_bias(ParameterTable& table, const config::Moe& moe,
                           const std::vector<RoutingStats>& stats, parallel::Communicator& ranks) {
  if (!moe.router().selection_bias()) return;
  const at::NoGradGuard no_grad;
  const auto load = total_load(stats, moe.num_experts(), ranks);
  for (Parameter& parameter : table.parameters()) {
    if (parameter.use != Use::kSelectionBias) continue;
    SY_CHECK(parameter.router >= 0 && parameter.router < std::ssize(stats),
             "{} belongs to router {}, but there are statistics of {}", parameter.name,
             parameter.router, stats.size());
    // Exact: compares num_experts * load with the sum of the loads.
    const at::Tensor load_E = at::tensor(load[parameter.router], at::kLong);
    const at::Tensor direction_E = (load_E.sum() - load_E * moe.num_experts()).sign();
    parameter.master.add_(direction_E.to(parameter.master.options()),
                          moe.router().bias_update_rate());
    parameter.value.copy_(parameter.master);
  }
}

}  // namespace switchyard::models
