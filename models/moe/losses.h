#pragma once
// The router's auxiliary losses, and how they join the graph. Each function returns this rank's
// share of the value of the whole step, without its coefficient: shares add up over ranks and
// micro-batches, and so do their gradients.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/moe/context.h"
#include "models/moe/router.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// Slots asking for each expert: first choices only, or all. expert [T, K] -> counts [groups, E]
// int64, where a group is group_tokens consecutive tokens.
at::Tensor count_load(const at::Tensor& expert_TK, int64_t num_experts, int64_t group_tokens,
                      config::LoadFraction which);

// f_i of the balance loss, constant: [groups, E] (PER_GROUP) or [1, E] (GLOBAL_BATCH;
// **collective** over `data`).
at::Tensor load_share(const at::Tensor& expert_TK, const config::Moe& moe, int64_t group_tokens,
                      const StepContext& context, parallel::Communicator& data);

// E * sum_i f_i P_i, P_i the mean probability over the group or batch; 1 at perfect balance. Switch
// equation 4, GShard section 2.2 (scaled by E^2 as all implementations do).
at::Tensor balance_loss(const at::Tensor& probability_TE, const at::Tensor& share_GE,
                        const StepContext& context);

// Mean over tokens of logsumexp(logits)^2. ST-MoE equation 5.
at::Tensor router_z_loss(const at::Tensor& logits_TE, const StepContext& context);

// Returns x; in backward `loss` (a scalar) receives gradient 1, as if it had been added to the
// total. So an auxiliary loss needs no way out of the model, and recompute keeps it.
at::Tensor attach_loss(const at::Tensor& x, const at::Tensor& loss);

}  // namespace switchyard::models
