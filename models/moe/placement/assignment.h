#pragma once
// Slot assignment: which of a token's choices get a place at their expert, and which are dropped.
// Exact and sequential by definition, so that "first come" means first in token order. The result
// depends on the routing group alone, never on the number of ranks. (GShard algorithm 1; Switch
// section 2.2 and appendix B; V-MoE section 4; DeepSeek-V2 section 2.2.4.)

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
  std::vector<float> lot = {};  // AT_RANDOM_ORDER: [T*K], the lowest keep their places
  std::vector<uint8_t> exempt = {};  // DEVICE_BUDGET: [T], 1: never dropped, though it counts
  std::vector<int64_t> group_capacity = {};  // of each group, where padding makes them differ
};

struct Assignment {
  // [T*K] place of each slot among those its expert keeps of its group, from 0; -1: not kept.
  std::vector<int64_t> position;
  int64_t num_dropped = 0;  // admitted slots without a place (NEXT_FREE and experts_choose: tokens)
  parallel::SlotOrder order;
};

// Slots of [T, K] by expert, then by slot: a counting sort. `position` as in Assignment: slots with
// -1 are left out; empty: none is.
parallel::SlotOrder order_by_expert(const at::Tensor& expert_TK,
                                    const std::vector<int64_t>& position, int64_t num_experts);

// expert [T, K] int64, choices in order of preference; score [T, K] float, the router's before any
// renormalisation (V-MoE section 4.1 ranks tokens by their top probability), read by
// BATCH_PRIORITIZED, BY_PROBABILITY and DEVICE_BUDGET; admitted [T*K] or empty: slots with 0 never
// ask for a place, hence take none (see admission.h). GShard's algorithm 1, as printed, also counts
// rejected second choices, so that later ones find less room; that reading is not offered. Scores
// are compared to 16 bits; equal ones rank by choice, then by token.
Assignment assign(const at::Tensor& expert_TK, const at::Tensor& score_TK,
                  const std::vector<uint8_t>& admitted, const AssignOptions& options);

}  // namespace switchyard::models
