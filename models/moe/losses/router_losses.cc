#include "models/moe/losses/router_losses.h"

#include "core/tensor/aten.h"
#include "models/moe/losses/balance.h"
#include "models/moe/losses/balance_within.h"
#include "models/moe/losses/losses.h"
#include "models/moe/losses/statistics.h"
#include "models/moe/router/selection.h"
#include "models/pass/coefficients.h"

namespace switchyard::models {
namespace {

struct Inputs {
  const Routing& routing;
  const config::Moe& moe;
  const StepContext& context;
  const RoutingDecision& decision;
  int64_t ranks;

  // The balance loss of these probabilities; undefined where the slope is.
  at::Tensor balance(const at::Tensor& probability_TE, const at::Tensor& slope_GE) const {
    return slope_GE.defined() ? balance_loss(probability_TE, slope_GE, context) : at::Tensor();
  }
};

// The parts of the losses, in the order in which they are computed and added; undefined: off.
struct Part {
  RouterLoss loss;
  at::Tensor (*value)(const Inputs& in);
};
constexpr Part kParts[] = {
    {RouterLoss::kBalance,
     [](const Inputs& in) {
       if (in.context.routing.pool) return at::Tensor();  // attach_pooled() adds it
       return in.balance(in.routing.probability_TE, in.decision.balance.expert_GE);
     }},
    {RouterLoss::kBalance,
     [](const Inputs& in) {
       const at::Tensor& slope_GE = in.decision.balance.within_GE;
       if (!slope_GE.defined()) return at::Tensor();
       return balance_loss_within(in.routing, in.decision.enters_T1, slope_GE);
     }},
    {RouterLoss::kBalance,
     [](const Inputs& in) {
       const at::Tensor& slope_GE = in.decision.balance.second_GE;
       if (!slope_GE.defined()) return at::Tensor();
       return in.balance(second_place_probability(in.routing), slope_GE);
     }},
    {RouterLoss::kDevice,
     [](const Inputs& in) {
       return in.balance(in.routing.probability_TE, in.decision.balance.device_GE);
     }},
    {RouterLoss::kCommunication,
     [](const Inputs& in) {
       return in.balance(in.routing.probability_TE, in.decision.balance.communication_GE);
     }},
    {RouterLoss::kZ,
     [](const Inputs& in) { return router_z_loss(in.routing.logits_TE, in.context); }},
    {RouterLoss::kImportance,
     [](const Inputs& in) {
       const at::Tensor& total_E = in.decision.importance_E;
       if (!total_E.defined()) return at::Tensor();
       const at::Tensor local_E = importance_of(in.routing, in.moe.num_experts(), in.context);
       return cv_loss(total_with_gradient(total_E, local_E), in.context, in.ranks);
     }},
    {RouterLoss::kLoad,
     [](const Inputs& in) {
       const at::Tensor& total = in.decision.load_terms;
       if (!total.defined()) return at::Tensor();
       const at::Tensor terms = total_with_gradient(total, load_terms(in.routing, in.context));
       return cv_loss(load_from(terms, in.moe), in.context, in.ranks);
     }},
    {RouterLoss::kThreshold,
     [](const Inputs& in) {
       if (!in.routing.threshold_E.defined()) return at::Tensor();
       return threshold_loss(in.routing, in.decision.kept_TK, in.context);
     }},
};

}  // namespace

void decide_losses(const Routing& routing, const config::Moe& moe, const StepContext& context,
                   parallel::Communicator& data, LoadTotals* totals, RoutingDecision& decision) {
  decision.balance = balance_slopes(routing, moe, context, data, totals);
  if (decision.enters_T1.defined()) {
    decision.balance.within_GE =
        balance_slope_within(routing, decision.enters_T1, moe, context, data, totals);
  }
  const RouterLosses coefficients = router_coefficients(moe, context);
  if (coefficients[RouterLoss::kImportance] > 0) {
    decision.importance_E = total_over(importance_of(routing, moe.num_experts(), context), data);
  }
  if (coefficients[RouterLoss::kLoad] > 0) {
    decision.load_terms = total_over(load_terms(routing, context), data);
  }
}

at::Tensor router_losses(const Routing& routing, const config::Moe& moe, const StepContext& context,
                         const RoutingDecision& decision, int64_t ranks, RoutingSums& sums) {
  RouterLosses coefficients = router_coefficients(moe, context);
  // Experts that choose are in balance: of an encoder-decoder the coefficient is the decoder's.
  if (experts_choose(moe)) coefficients[RouterLoss::kBalance] = 0;
  at::Tensor total = at::zeros({}, routing.logits_TE.options());
  for (const auto& [kind, value] : kParts) {
    const at::Tensor loss = value({routing, moe, context, decision, ranks});
    if (!loss.defined()) continue;
    sums.add(kind, loss);
    if (coefficients[kind] > 0) total = total + loss * coefficients[kind];
  }
  return total;
}

}  // namespace switchyard::models
