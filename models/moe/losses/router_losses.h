#pragma once
// All of a layer's router losses together: what they need of other ranks, their values, their sum.

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

}  // namespace switchyard::models
