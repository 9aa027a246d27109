#include "models/moe/stats.h"

#include <algorithm>
#include <span>

namespace switchyard::models {
namespace {

// Calls f on each number of the statistics, in a fixed order. Counts stay exact as doubles up to
// 2^53.
template <typename F>
void for_each_number(RoutingStats& stats, const F& f) {
  for (int64_t& load : stats.load) f(load);
  f(stats.tokens);
  f(stats.slots);
  f(stats.rejected);
  f(stats.dropped);
  f(stats.balance_loss);
  f(stats.z_loss);
  f(stats.device_loss);
  f(stats.communication_loss);
  f(stats.importance_loss);
  f(stats.load_loss);
  f(stats.threshold_loss);
  f(stats.router_entropy);
}

}  // namespace

RoutingStats& RoutingStats::operator+=(const RoutingStats& other) {
  load.resize(std::max(load.size(), other.load.size()));
  for (size_t e = 0; e < other.load.size(); ++e) load[e] += other.load[e];
  tokens += other.tokens;
  slots += other.slots;
  rejected += other.rejected;
  dropped += other.dropped;
  balance_loss += other.balance_loss;
  z_loss += other.z_loss;
  device_loss += other.device_loss;
  communication_loss += other.communication_loss;
  importance_loss += other.importance_loss;
  load_loss += other.load_loss;
  threshold_loss += other.threshold_loss;
  router_entropy += other.router_entropy;
  return *this;
}

void reduce_stats(std::vector<RoutingStats>& layers, parallel::Communicator& ranks) {
  std::vector<double> numbers;
  for (RoutingStats& stats : layers) {
    for_each_number(stats, [&](auto& number) { numbers.push_back(static_cast<double>(number)); });
  }
  ranks.all_reduce(std::span(numbers), parallel::ReduceOp::kSum, "routing statistics");
  size_t next = 0;
  for (RoutingStats& stats : layers) {
    for_each_number(stats, [&](auto& number) {
      number = static_cast<std::decay_t<decltype(number)>>(numbers[next++]);
    });
  }
}

std::vector<std::vector<int64_t>> total_load(const std::vector<RoutingStats>& layers,
                                             int64_t num_experts, parallel::Communicator& ranks) {
  std::vector<int64_t> load(layers.size() * num_experts);
  for (size_t i = 0; i < layers.size(); ++i) {
    std::copy(layers[i].load.begin(), layers[i].load.end(), load.begin() + i * num_experts);
  }
  ranks.all_reduce(std::span(load), parallel::ReduceOp::kSum, "load of the experts");
  std::vector<std::vector<int64_t>> totals;
  for (auto first = load.begin(); first != load.end(); first += num_experts) {
    totals.emplace_back(first, first + num_experts);
  }
  return totals;
}

}  // namespace switchyard::models
