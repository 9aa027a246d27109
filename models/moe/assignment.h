#pragma once
// Slot assignment: which of a token's choices get a place at their expert, and which are dropped.
// Exact and sequential by definition, so that "first come" means first in token order. The result
// depends on the routing group alone, never on the number of ranks. (GShard algorithm 1; Switch
// section 2.2 and appendix B; V-MoE section 4.)

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
  int64_t capacity = 0;      // slots per expert and group; unused by NO_DROP
};

struct Assignment {
  // [T*K] place of each slot among those its expert keeps of its group, from 0; -1: not kept.
  std::vector<int64_t> position;
  int64_t num_dropped = 0;  // admitted slots without a place (NEXT_FREE: tokens without one)
  parallel::SlotOrder order;
};

// Slots per expert and routing group: floor(factor * group_tokens * (top_k if counts_k) /
// num_experts), at most group_tokens, at least `minimum`. (Mesh-TensorFlow's rule; DeepSpeed and
// Megatron count k.)
int64_t capacity_of(const config::Capacity& capacity, bool training, int64_t group_tokens,
                    int64_t top_k, int64_t num_experts);

// expert [T, K] int64, choices in order of preference; weight [T, K] float, read by
// BATCH_PRIORITIZED only; admitted [T*K] or empty: slots with 0 never ask for a place, hence take
// none (GShard's random second choice).
Assignment assign(const at::Tensor& expert_TK, const at::Tensor& weight_TK,
                  const std::vector<uint8_t>& admitted, const AssignOptions& options);

// GShard's random dispatch: the first choice always; the second with probability min(1, weight /
// threshold). uniform [T] in [0, 1). Returns `admitted` for assign().
std::vector<uint8_t> admit_second_choice(const at::Tensor& weight_T2, double threshold,
                                         const std::vector<float>& uniform);

}  // namespace switchyard::models
