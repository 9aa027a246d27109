#pragma once
// The auxiliary losses of a router: all of a layer's together, those beside balance.h one by one,
// and how losses join the graph. Each loss is this rank's share of the value of the whole step,
// without its coefficient: shares add up over ranks and micro-batches, and so do their gradients.
// Padding counts nowhere.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"
#include "models/pass/stats.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// Fills the decision's part of the losses: once per forward pass, not again in recompute.
// **Collective** over `data` where the config's statistics are of all ranks; `totals` as in
// balance_slopes().
void decide_losses(const Routing& routing, const config::Moe& moe, const StepContext& context,
                   parallel::Communicator& data, LoadTotals* totals, RoutingDecision& decision);

// The sum of the losses times their coefficients, a differentiable scalar; the values are added to
// `sums`, without coefficients. The pooled balance loss is not in it (attach_pooled).
at::Tensor router_losses(const Routing& routing, const config::Moe& moe, const StepContext& context,
                         const RoutingDecision& decision, int64_t ranks, RoutingSums& sums);

// Mean over tokens of logsumexp(logits)^2. ST-MoE equation 5.
at::Tensor router_z_loss(const at::Tensor& logits_TE, const StepContext& context);

// The sums of this rank's weights, differentiable, [E] float64 (2017, section 4).
at::Tensor importance_of(const Routing& routing, int64_t num_experts, const StepContext& context);

// The terms of the load over this rank's tokens, differentiable, float64. One level: [E], the
// expected number of tokens under the noise (2017, appendix A); without noise, the number itself,
// which has no gradient. Two levels: models/moe/rules/two_level.h.
at::Tensor load_terms(const Routing& routing, const StepContext& context);

// The load, [E], from the terms summed over ranks.
at::Tensor load_from(const at::Tensor& terms, const config::Moe& moe);

// `total`, whose gradient flows unchanged to `local`, this rank's part of it.
at::Tensor total_with_gradient(const at::Tensor& total, const at::Tensor& local);

// Squared coefficient of variation, population variance: var / (mean^2 + 1e-10).
at::Tensor cv_squared(const at::Tensor& total_E);

// CV^2 of a total over ranks; the mean over the step's micro-batches. `ranks` share the value, but
// each keeps the whole gradient of its own part.
at::Tensor cv_loss(const at::Tensor& total_E, const StepContext& context, int64_t ranks);

// STRICTLY_BALANCED: sum over tokens and experts of (score > threshold, less whether the expert
// took the token) * (score - threshold), over the tokens of the step; at least 0, and 0 when the
// thresholds make the same choices. Gradient to the thresholds alone. (2017, appendix F.)
at::Tensor threshold_loss(const Routing& routing, const at::Tensor& kept_TE,
                          const StepContext& context);

// Returns x; in backward `loss` (a scalar) receives gradient 1, as if it had been added to the
// total. So an auxiliary loss needs no way out of the model, and recompute keeps it.
at::Tensor attach_loss(const at::Tensor& x, const at::Tensor& loss);

}  // namespace switchyard::models
