#include "models/moe/losses/router_losses.h"

#include "core/tensor/aten.h"
#include "models/moe/losses/balance.h"
#include "models/moe/losses/losses.h"
#include "models/moe/router/selection.h"
#include "models/moe/rules/balance_within.h"
#include "models/pass/coefficients.h"

namespace switchyard::models {

void decide_losses(const Routing& routing, const config::Moe& moe, const StepContext& context,
                   parallel::Communicator& data, LoadTotals* totals, RoutingDecision& decision) {
  decision.balance = balance_slopes(routing, moe, context, data, totals);
  if (decision.enters_T1.defined()) {
    decision.balance.within_GE =
        balance_slope_within(routing, decision.enters_T1, moe, context, data, totals);
  }
  const LossCoefficients::Routers coefficients = router_coefficients(moe, context);
  if (coefficients.importance > 0) {
    decision.importance_E = total_over(importance_of(routing, moe.num_experts(), context), data);
  }
  if (coefficients.load > 0) {
    decision.load_terms = total_over(load_terms(routing, context), data);
  }
}

at::Tensor router_losses(const Routing& routing, const config::Moe& moe, const StepContext& context,
                         const RoutingDecision& decision, int64_t ranks, RoutingStats& values) {
  at::Tensor total = at::zeros({}, routing.logits_TE.options());
  const auto add = [&](const at::Tensor& loss, double coefficient, double& value) {
    value += loss.item<double>();
    if (coefficient > 0) total = total + loss * coefficient;
  };
  const LossCoefficients::Routers coefficients = router_coefficients(moe, context);
  // Experts that choose are in balance: of an encoder-decoder the coefficient is the decoder's.
  const double of_balance = experts_choose(moe) ? 0 : coefficients.balance;
  const auto of = [&](const at::Tensor& slope_GE) {
    return balance_loss(routing.probability_TE, slope_GE, context);
  };
  if (!context.routing.pool) {
    add(of(decision.balance.expert_GE), of_balance, values.balance_loss);
  }
  if (decision.balance.within_GE.defined()) {
    add(balance_loss_within(routing, decision.enters_T1, decision.balance.within_GE), of_balance,
        values.balance_loss);
  }
  if (decision.balance.second_GE.defined()) {
    add(balance_loss(second_place_probability(routing), decision.balance.second_GE, context),
        of_balance, values.balance_loss);
  }
  if (decision.balance.device_GE.defined()) {
    add(of(decision.balance.device_GE), coefficients.device, values.device_loss);
  }
  if (decision.balance.communication_GE.defined()) {
    add(of(decision.balance.communication_GE), coefficients.communication,
        values.communication_loss);
  }
  add(router_z_loss(routing.logits_TE, context), coefficients.z, values.z_loss);
  const auto add_cv = [&](const at::Tensor& total_E, double coefficient, double& value) {
    add(cv_loss(total_E, context, ranks), coefficient, value);
  };
  if (decision.importance_E.defined()) {
    add_cv(total_with_gradient(decision.importance_E,
                               importance_of(routing, moe.num_experts(), context)),
           coefficients.importance, values.importance_loss);
  }
  if (decision.load_terms.defined()) {
    const at::Tensor terms = total_with_gradient(decision.load_terms, load_terms(routing, context));
    add_cv(load_from(terms, moe), coefficients.load, values.load_loss);
  }
  if (routing.threshold_E.defined()) {
    add(threshold_loss(routing, decision.kept_TK, context), 1, values.threshold_loss);
  }
  return total;
}

}  // namespace switchyard::models
