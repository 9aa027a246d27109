#include "models/pass/stats.h"

#include <algorithm>
#include <span>

#include "core/tensor/aten.h"

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
  for (double& loss : stats.losses) f(loss);
  f(stats.router_entropy);
}

// Begins at 0 and not at the first value, so that -0 never shows.
void add_to(at::Tensor& sum, const at::Tensor& value) {
  if (value.defined()) sum = (sum.defined() ? sum : at::zeros_like(value)) + value;
}

template <typename T>
T number(const at::Tensor& sum) {
  return sum.defined() ? sum.item<T>() : T{0};
}

RoutingStats read_one(const RoutingSums& sums) {
  RoutingStats stats;
  if (sums.load_E.defined()) {
    const at::Tensor load_E = sums.load_E.cpu();
    stats.load.assign(load_E.const_data_ptr<int64_t>(),
                      load_E.const_data_ptr<int64_t>() + load_E.numel());
  }
  stats.tokens = number<int64_t>(sums.tokens);
  stats.slots = number<int64_t>(sums.slots);
  stats.rejected = number<int64_t>(sums.rejected);
  stats.dropped = number<int64_t>(sums.dropped);
  stats.router_entropy = number<double>(sums.router_entropy);
  std::ranges::transform(sums.losses, stats.losses.begin(), number<double>);
  return stats;
}

}  // namespace

RoutingSums& RoutingSums::operator+=(const RoutingSums& other) {
  add_to(load_E, other.load_E);
  add_to(tokens, other.tokens);
  add_to(slots, other.slots);
  add_to(rejected, other.rejected);
  add_to(dropped, other.dropped);
  add_to(router_entropy, other.router_entropy);
  for (size_t i = 0; i < losses.size(); ++i) add_to(losses[i], other.losses[i]);
  return *this;
}

void RoutingSums::add(RouterLoss loss, const at::Tensor& value) {
  add_to(losses[static_cast<size_t>(loss)], value.detach().to(at::kDouble));
}

std::vector<RoutingStats> numbers_of(const std::vector<RoutingSums>& routers) {
  std::vector<RoutingStats> stats(routers.size());
  std::ranges::transform(routers, stats.begin(), read_one);
  return stats;
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

void gather_stats(std::vector<RoutingStats>& routers, int64_t num_experts,
                  parallel::Communicator& stages) {
  if (stages.size() == 1) return;
  for (RoutingStats& stats : routers) stats.load.resize(num_experts);
  reduce_stats(routers, stages);
}

std::vector<std::vector<int64_t>> total_load(const std::vector<RoutingStats>& layers,
                                             int64_t num_experts, parallel::Communicator& ranks) {
  std::vector<int64_t> load(layers.size() * num_experts);
  for (size_t i = 0; i < layers.size(); ++i) {
    std::ranges::copy(layers[i].load, load.begin() + i * num_experts);
  }
  ranks.all_reduce(std::span(load), parallel::ReduceOp::kSum, "load of the experts");
  std::vector<std::vector<int64_t>> totals;
  for (auto first = load.begin(); first != load.end(); first += num_experts) {
    totals.emplace_back(first, first + num_experts);
  }
  return totals;
}

}  // namespace switchyard::models
