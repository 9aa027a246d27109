#include "models/moe/selection_bias.h"

#include <numeric>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "models/moe/stats.h"

namespace switchyard::models {
namespace {

std::vector<Parameter*> biases_of(ParameterTable& table) {
  std::vector<Parameter*> biases;
  for (Parameter& parameter : table.parameters()) {
    if (parameter.name.ends_with("router.selection_bias")) biases.push_back(&parameter);
  }
  return biases;
}

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
  const std::vector<Parameter*> biases = biases_of(table);
  SY_CHECK(biases.size() == stats.size(), "{} selection biases, but statistics of {} MoE layers",
           biases.size(), stats.size());
  const auto load = total_load(stats, moe.num_experts(), ranks);
  for (size_t i = 0; i < biases.size(); ++i) {
    move(load[i].data(), moe.router().bias_update_rate(), biases[i]->master);
  }
}

}  // namespace switchyard::models
