#pragma once
// Counts of choices, over the tokens that the config's balance statistics take together.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// Slots asking for each expert: first choices only (FIRST_CHOICE), or all. expert [T, K] -> counts
// [groups, E] int64, where a group is group_tokens consecutive tokens. Padding, where is_real [T]
// is defined and false, does not count.
at::Tensor count_load(const at::Tensor& expert_TK, int64_t num_experts, int64_t group_tokens,
                      config::LoadFraction which, const at::Tensor& is_real_T);

// What such counts add up to per token.
double assignments_per_token(config::LoadFraction which, int64_t choices);

// Tokens of one group that is counted by itself: a sequence, or a routing group.
int64_t statistics_tokens(const config::Moe& moe, const StepContext& context);

// Counts of such groups, [groups, N] float64, as they are, or added up as the statistics say:
// PER_RANK over this rank's groups, [1, N]; GLOBAL_BATCH over all ranks', **collective** over
// `data`, and on top of `so_far`, which receives the sum (null: nothing came before).
at::Tensor over_statistics(const at::Tensor& count_GN, config::Statistics statistics,
                           parallel::Communicator& data, at::Tensor* so_far);

// The sum of `local` over the ranks, float64, constant. **Collective** over `data`.
at::Tensor total_over(const at::Tensor& local, parallel::Communicator& data);

}  // namespace switchyard::models
