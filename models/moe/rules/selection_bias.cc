#include "models/moe/rules/selection_bias.h"

#include <numeric>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

// Exact: compares num_experts * load with the sum of the loads.
void move(const int64_t* load, double rate, const at::Tensor& bias_E) {
  const int64_t experts = bias_E.numel();
  const int64_t total = std::accumulate(load, load + experts, int64_t{0});
  at::Tensor direction_E = at::empty({experts}, at::kDouble);
  auto* direction = direction_E.mutable_data_ptr<double>();
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t spare = total - experts * load[e];
    direction[e] = static_cast<double>((spare > 0) - (spare < 0));
  }
  bias_E.add_(direction_E.to(bias_E.scalar_type()), rate);
}

}  // namespace

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
    move(load[parameter.router].data(), moe.router().bias_update_rate(), parameter.master);
    parameter.value.copy_(parameter.master);
  }
}

}  // namespace switchyard::models
