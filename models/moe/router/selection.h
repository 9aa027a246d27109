#pragma once
// Which experts a token goes to: small functions from scores to ids, [T, E] -> [T, K] int64,
// choices in order of preference. None has a gradient. Ties go to the lowest id, always. The rules
// that do not look at one token's scores alone are in models/moe/rules.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

// EXPERT_CHOICE, STRICTLY_BALANCED: tokens name every expert, and the experts choose.
bool experts_choose(const config::Moe& moe);

// Experts that each token names: top_k; NEXT_FREE: its rounds; all where experts choose.
int64_t num_choices(const config::Moe& moe);

// The scores with those outside of each row's best groups set to -infinity. A group is E /
// num_groups neighbours; its score is the sum of its group_score_experts best (DeepSeek-V2: 1, the
// maximum. V3's paper: top_k / group_top_k, its code: 2; both are 2 at its published sizes).
// -infinity, not 0 as in a common port: a biased score may be negative.
at::Tensor keep_best_groups(const at::Tensor& score_TE, const config::Router& router);

// k draws without replacement, each with probability proportional to the scores that are left
// (Gumbel top-k). gumbel [T, E] standard Gumbel.
at::Tensor sample_by_score(const at::Tensor& score_TE, const at::Tensor& gumbel_TE, int64_t k);

// The best expert, then one drawn from the scores of the others (GShard's "sampling" policy).
at::Tensor best_and_sampled(const at::Tensor& score_TE, const at::Tensor& gumbel_TE);

}  // namespace switchyard::models
