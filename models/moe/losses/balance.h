#pragma once
// The balance losses: products of load fractions, which have no gradient, and mean probabilities.
// Each is linear in the probabilities, hence
//     loss = sum over real tokens t of <slope of t's statistics group, p_t>
// with a slope that is constant and can be kept for recompute. A group counts by its real tokens,
// so that the mean over groups of unequal padding is the mean over tokens; so does a rank with
// PER_RANK.
//
//   expert         E * sum_i f_i P_i (Switch equation 4, GShard, DeepSeekMoE). GShard's paper
//                  prints a mean over experts, 1/E^2 of this; all implementations scale as here
//   second place   E/2 * sum_i f2_i P2_i; P2: without the first choice, renormalised
//   device         sum_g (mean_{i in g} E f_i) (sum_{i in g} P_i)
//   communication  sum_g D/M (share of tokens sent to g) (sum_{i in g} P_i)
//
// Of a two-level gate the expert loss is that of the gate over groups;
// models/moe/rules/balance_within.h has the other part.

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/moe/router/router.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// Slots asking for each expert: first choices only (FIRST_CHOICE), or all. expert [T, K] -> counts
// [groups, E] int64, where a group is group_tokens consecutive tokens. `real` as from
// real_tokens().
at::Tensor count_load(const at::Tensor& expert_TK, int64_t num_experts, int64_t group_tokens,
                      config::LoadFraction which, const std::vector<uint8_t>& real);

// What such counts add up to per token.
double assignments_per_token(config::LoadFraction which, int64_t choices);

// Tokens of one group that is counted by itself: a sequence, or a routing group.
int64_t statistics_tokens(const config::Moe& moe, const StepContext& context);

// Counts of such groups, [groups, N] float64, as they are, or added up as the statistics say:
// PER_RANK over this rank's groups, [1, N]; GLOBAL_BATCH over all ranks', **collective** over
// `data`, and on top of `so_far`, which receives the sum (null: nothing came before).
at::Tensor over_statistics(const at::Tensor& count_GN, config::Statistics statistics,
                           parallel::Communicator& data, at::Tensor* so_far);

// The slopes of the losses that are on (the expert one always), [groups, E], or [1, E] with
// PER_RANK and GLOBAL_BATCH; **collective** over `data` with the latter, and then `totals` (null:
// of this micro-batch alone) grows by this micro-batch.
BalanceSlopes balance_slopes(const Routing& routing, const config::Moe& moe,
                             const StepContext& context, parallel::Communicator& data,
                             LoadTotals* totals);

// One loss from its slope.
at::Tensor balance_loss(const at::Tensor& probability_TE, const at::Tensor& slope_GE,
                        const StepContext& context);

// The probabilities without each token's first choice, renormalised: what the second-place slope
// belongs to.
at::Tensor second_place_probability(const Routing& routing);

// The tokens' sums behind balance_loss, [groups, E], differentiable, without padding.
at::Tensor group_sums(const at::Tensor& probability_TE, int64_t groups, const StepContext& context);

// Balance over all MoE layers' tokens together: a layer's gradient needs the later layers' loads,
// so it is computed in backward, when all layers have added theirs. One object per forward pass.
class PooledBalance {
 public:
  explicit PooledBalance(int64_t num_layers) : num_layers_(num_layers) {}

  // A layer's slope and sums, both constant, once.
  void add(const at::Tensor& slope_GE, const at::Tensor& sum_GE);
  bool is_complete() const { return added_ == num_layers_; }
  // Of all layers' tokens together. Requires: complete.
  double value() const;
  at::Tensor slope() const;  // of one layer's sums

 private:
  int64_t num_layers_, added_ = 0;
  at::Tensor slope_GE_, sum_GE_;  // summed over layers
};

// Returns x; in backward `sum` receives coefficient * pool->slope().
at::Tensor attach_pooled(const at::Tensor& x, const at::Tensor& sum_GE,
                         const std::shared_ptr<PooledBalance>& pool, double coefficient);

}  // namespace switchyard::models
