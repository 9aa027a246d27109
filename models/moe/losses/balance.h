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
//   within groups  sum_a (share of the tokens that enter in a) * I sum_i f_ai P_ai
//
// Of a two-level gate the expert loss is that of the gate over groups, and that within groups is
// for the others (Mesh-TensorFlow's form). A token enters in its best group alone, and with
// TWO_LEVEL_BY_IMPORTANCE only if that has place for it and more than half of its weight: f_ai is
// the fraction of those tokens that chose expert i of the group, P_ai their mean probability, and
// the loss at perfect balance is the share of all tokens that enter at all. (Mesh-TensorFlow takes
// both means over all slots of a group, empty ones too, and thus counts the share twice.)

#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// The slopes of the losses that are on (the expert one always), [groups, E], or [1, E] with
// PER_RANK and GLOBAL_BATCH; **collective** over `data` with the latter, and then `totals` (null:
// of this micro-batch alone) grows by this micro-batch.
BalanceSlopes balance_slopes(const Routing& routing, const config::Moe& moe,
                             const StepContext& context, parallel::Communicator& data,
                             LoadTotals* totals);

// The slope within groups of a two-level gate, with the same `data` and `totals`. enters_T1: 1 for
// tokens that enter, else 0.
at::Tensor balance_slope_within(const Routing& routing, const at::Tensor& enters_T1,
                                const config::Moe& moe, const StepContext& context,
                                parallel::Communicator& data, LoadTotals* totals);

// Slots asking for each expert: first choices only (FIRST_CHOICE), or all. expert [T, K] -> counts
// [groups, E] int64, where a group is group_tokens consecutive tokens. Padding, where is_real [T]
// is defined and false, does not count.
at::Tensor count_load(const at::Tensor& expert_TK, int64_t num_experts, int64_t group_tokens,
                      config::LoadFraction which, const at::Tensor& is_real_T);

// The sum of `local` over the ranks, float64, constant. **Collective** over `data`.
at::Tensor total_over(const at::Tensor& local, parallel::Communicator& data);

// This rank's share of a loss from its slope, a differentiable scalar.
at::Tensor balance_loss(const at::Tensor& probability_TE, const at::Tensor& slope_GE,
                        const StepContext& context);

// This rank's share of the loss within groups from its slope.
at::Tensor balance_loss_within(const Routing& routing, const at::Tensor& enters_T1,
                               const at::Tensor& slope_GE);

// The probabilities without each token's first choice, renormalised: what the second-place slope
// belongs to.
at::Tensor second_place_probability(const Routing& routing);

// The sums of probabilities over each group's real tokens, [groups, E], differentiable.
at::Tensor group_sums(const at::Tensor& probability_TE, int64_t groups, const StepContext& context);

// Balance over all MoE layers' tokens together: a layer's gradient needs the later layers' loads,
// so it is computed in backward, when all layers have added theirs. One object per forward pass.
class PooledBalance {
 public:
  explicit PooledBalance(int64_t num_layers) : num_layers_(num_layers) {}

  // Adds one layer's slope and its group_sums(), detached. Call once per layer.
  void add(const at::Tensor& slope_GE, const at::Tensor& sum_GE);
  bool is_complete() const { return added_ == num_layers_; }
  // The loss of all layers' tokens together, and its slope in one layer's sums. Requires: complete.
  at::Tensor value() const;
  at::Tensor slope() const;

 private:
  int64_t num_layers_, added_ = 0;
  at::Tensor slope_GE_, sum_GE_;  // summed over layers
};

// Returns x; in backward `sum` receives coefficient * pool->slope().
at::Tensor attach_pooled(const at::Tensor& x, const at::Tensor& sum_GE,
                         const std::shared_ptr<PooledBalance>& pool, double coefficient);

}  // namespace switchyard::models
