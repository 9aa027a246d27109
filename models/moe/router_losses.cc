#include "models/moe/router_losses.h"

#include "core/tensor/aten.h"
#include "models/moe/balance.h"
#include "models/moe/losses.h"

namespace switchyard::models {

void decide_losses(const Routing& routing, const config::Moe& moe, const StepContext& context,
                   parallel::Communicator& data, RoutingDecision& decision) {
  decision.balance = balance_slopes(routing, moe, context, data);
  if (moe.importance_loss_coefficient() > 0) {
    decision.importance_E = total_over(importance_of(routing, context), data);
  }
  if (moe.load_loss_coefficient() > 0) {
    decision.load_E = total_over(load_of(routing, context), data);
  }
}

at::Tensor router_losses(const Routing& routing, const config::Moe& moe, const StepContext& context,
                         const RoutingDecision& decision, int64_t ranks, RoutingStats& values) {
  at::Tensor total = at::zeros({}, routing.logits_TE.options());
  const auto add = [&](const at::Tensor& loss, double coefficient, double& value) {
    value += loss.item<double>();
    if (coefficient > 0) total = total + loss * coefficient;
  };
  const config::BalanceLoss& balance = moe.balance_loss();
  const auto of = [&](const at::Tensor& slope_GE) {
    return balance_loss(routing.probability_TE, slope_GE, context);
  };
  if (!context.pool) {
    add(of(decision.balance.expert_GE), balance.coefficient(), values.balance_loss);
  }
  if (decision.balance.second_GE.defined()) {
    add(balance_loss(second_place_probability(routing), decision.balance.second_GE, context),
        balance.coefficient(), values.balance_loss);
  }
  if (decision.balance.device_GE.defined()) {
    add(of(decision.balance.device_GE), balance.device_coefficient(), values.device_loss);
  }
  if (decision.balance.communication_GE.defined()) {
    add(of(decision.balance.communication_GE), balance.communication_coefficient(),
        values.communication_loss);
  }
  add(router_z_loss(routing.logits_TE, context), moe.z_loss_coefficient(), values.z_loss);
  if (decision.importance_E.defined()) {
    add(cv_loss(importance_of(routing, context), decision.importance_E, context, ranks),
        moe.importance_loss_coefficient(), values.importance_loss);
  }
  if (decision.load_E.defined()) {
    add(cv_loss(load_of(routing, context), decision.load_E, context, ranks),
        moe.load_loss_coefficient(), values.load_loss);
  }
  return total;
}

}  // namespace switchyard::models
