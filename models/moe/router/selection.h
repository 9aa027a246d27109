#pragma once
// Which experts a token goes to: small functions from scores to ids, [T, E] -> [T, K] int64,
// choices in order of preference. None has a gradient. Ties go to the lowest id, always.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"

namespace switchyard::models {

// EXPERT_CHOICE, STRICTLY_BALANCED: tokens name every expert, and the experts choose.
bool experts_choose(const config::Moe& moe);

// Experts that each token names: top_k; NEXT_FREE: its rounds; all where experts choose.
int64_t num_choices(const config::Moe& moe);

// The k largest scores of each row, largest first.
at::Tensor top_k_lowest_id(const at::Tensor& score_TE, int64_t k);

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

// k different experts for each token id [T], a fixed function of the id and the seed: the same in
// every layer and step. (Hash Layers, 2021: balanced over the vocabulary, not over its
// frequencies.)
at::Tensor hash_choice(const at::Tensor& token_ids_T, int64_t num_experts, int64_t k,
                       uint64_t seed);

// Sinkhorn's algorithm on exp(logits) of each group of tokens: scaled by rows and columns until
// every token has mass 1/S and every expert 1/E, to 1e-4 or 100 rounds, and rounded to 2^-16 of
// the even mass 1/(S E). `real` as from real_tokens(); padding has mass 0.
at::Tensor sinkhorn(const at::Tensor& logits_TE, int64_t group_tokens,
                    const std::vector<uint8_t>& real);

// Round-robin or Zipf(1) choices that ignore the scores: a known load, for benchmarks and tests.
struct ForcedChoice {
  int64_t tokens, k, num_experts;
  TokenMap map;
  bool skewed;
};
at::Tensor forced_choice(const ForcedChoice& options);

}  // namespace switchyard::models
