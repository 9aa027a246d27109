#pragma once
// What routers count, and its sums over ranks.

#include <array>
#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/pass/router_loss.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// What one router counts on this rank, as tensors, which no layer waits for. Undefined: 0.
struct RoutingSums {
  // They have the meaning of RoutingStats' fields: the load is int64 [E], the entropy float64, the
  // others are int64 numbers.
  at::Tensor load_E, tokens, slots, rejected, dropped, router_entropy;
  std::array<at::Tensor, kNumRouterLosses> losses;  // float64

  RoutingSums& operator+=(const RoutingSums& other);
  void add(RouterLoss loss, const at::Tensor& value);
};

// What one router saw on this rank. Every field adds up over micro-batches and ranks.
struct RoutingStats {
  // [E] slots asking for each expert, before any drop; NEXT_FREE: of the first top_k rounds
  std::vector<int64_t> load;
  int64_t tokens = 0;
  int64_t slots = 0;     // that asked for a place
  int64_t rejected = 0;  // later choices that the second-choice policy did not let ask
  int64_t dropped = 0;   // that asked and found none
  // This rank's share of the step's values, without their coefficients.
  RouterLosses losses;
  double router_entropy = 0;  // sum over tokens of the probabilities' entropy, in nats
};

// The numbers of each router, which ends the wait for a device.
std::vector<RoutingStats> numbers_of(const std::vector<RoutingSums>& routers);

// **Collective.** Sums every field of every layer over the ranks; every rank gets the sums.
void reduce_stats(std::vector<RoutingStats>& layers, parallel::Communicator& ranks);

// **Collective** over the stages of a pipeline, each router being on one of them. Every stage gets
// the counts of all.
void gather_stats(std::vector<RoutingStats>& routers, int64_t num_experts,
                  parallel::Communicator& stages);

// **Collective** over `ranks`. [MoE layer][expert] slots over all ranks; a rank without tokens may
// have counted nothing.
std::vector<std::vector<int64_t>> total_load(const std::vector<RoutingStats>& layers,
                                             int64_t num_experts, parallel::Communicator& ranks);

}  // namespace switchyard::models
