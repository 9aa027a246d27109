#pragma once
// Slot assignment: which of a token's choices get a place at their expert, and which are dropped.
// Exact and sequential by definition, so that "first come" means first in token order, and
// therefore computed on the host (models/pass/on_host.h). The result depends on the routing group
// alone, never on the number of ranks. (GShard algorithm 1; Switch section 2.2 and appendix B;
// V-MoE section 4; DeepSeek-V2 section 2.2.4.)

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "parallel/exchange.h"

namespace switchyard::models {

struct AssignOptions {
  config::DropPolicy policy = config::NO_DROP;
  int64_t num_experts = 0;
  int64_t group_tokens = 0;  // tokens of one routing group; divides the number of tokens
  int64_t capacity = 0;      // slots per expert (DEVICE_BUDGET: device) and group; not for NO_DROP
  int64_t num_devices = 1;   // DEVICE_BUDGET
  bool experts_choose = false;  // every token asks every expert: a slot without a place is no drop,
                                // but a token without any is
  at::Tensor lot_TK = {};       // AT_RANDOM_ORDER: float32, the lowest keep their places
  at::Tensor exempt_T1 = {};    // DEVICE_BUDGET: bool, true: never dropped, though it counts
  std::vector<int64_t> group_capacity = {};  // of each group, where padding makes them differ
};

struct Assignment {
  // int64: the place of each slot among those its expert keeps of its group, from 0; -1: not kept.
  at::Tensor position_TK;
  at::Tensor num_dropped;  // int64, one number: admitted slots without a place (NEXT_FREE and
                           // experts_choose: tokens)
  parallel::SlotOrder order;
};

// [groups, num_experts] int64: the slots that ask for each expert, of each group of group_tokens
// consecutive tokens. counts [T, K] or [T, 1] bool: those that are counted; undefined: all.
at::Tensor count_slots(const at::Tensor& expert_TK, const at::Tensor& counts_TK,
                       int64_t num_experts, int64_t group_tokens);

// expert [T, K] int64, choices in order of preference; score [T, K] float, the router's before any
// renormalisation (V-MoE section 4.1 ranks tokens by their top probability), read by
// BATCH_PRIORITIZED, BY_PROBABILITY and DEVICE_BUDGET; admitted [T, K] bool or undefined: the other
// slots never ask for a place, hence take none (see admission.h). GShard's algorithm 1, as printed,
// also counts rejected second choices, so that later ones find less room; that reading is not
// offered. Scores are compared to 16 bits; equal ones rank by choice, then by token.
Assignment assign(const at::Tensor& expert_TK, const at::Tensor& score_TK,
                  const at::Tensor& admitted_TK, const AssignOptions& options);

}  // namespace switchyard::models
