#include "models/moe/losses/losses.h"

#include <algorithm>
#include <vector>

#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "models/moe/losses/balance.h"
#include "models/moe/router/selection.h"
#include "models/moe/rules/two_level.h"

namespace switchyard::models {

at::Tensor router_z_loss(const at::Tensor& logits_TE, const StepContext& context) {
  const at::Tensor squares_T = logits_TE.logsumexp(-1).square();
  return without_padding(squares_T, context).sum() / static_cast<double>(context.count.in_step);
}

at::Tensor importance_of(const Routing& routing, int64_t num_experts, const StepContext& context) {
  const at::Tensor weight_TK = without_padding(routing.weight_TK, context).to(at::kDouble);
  return at::zeros({num_experts}, at::kDouble)
      .scatter_add(0, routing.expert_TK.flatten(), weight_TK.flatten());
}

at::Tensor load_terms(const Routing& routing, const StepContext& context) {
  const int64_t tokens = routing.expert_TK.size(0), experts = routing.logits_TE.size(1);
  if (routing.groups.group_TL.defined()) {
    return two_level_load_terms(routing,
                                without_padding(at::ones({tokens, 1}, at::kDouble), context));
  }
  if (routing.chance_TE.defined()) {
    return without_padding(routing.chance_TE, context).to(at::kDouble).sum(0);
  }
  return count_load(routing.expert_TK, experts, std::max<int64_t>(tokens, 1), config::ALL_CHOICES,
                    context.is_real_T)
      .sum(0)
      .to(at::kDouble);
}

at::Tensor load_from(const at::Tensor& terms, const config::Moe& moe) {
  return moe.router().hierarchy() > config::ONE_LEVEL
             ? two_level_load(terms, moe.router().num_groups())
             : terms;
}

at::Tensor cv_squared(const at::Tensor& total_E) {
  const at::Tensor mean = total_E.mean();
  return (total_E - mean).square().mean() / (mean.square() + 1e-10);
}

at::Tensor total_with_gradient(const at::Tensor& total, const at::Tensor& local) {
  return total + (local - local.detach());
}

at::Tensor cv_loss(const at::Tensor& total_E, const StepContext& context, int64_t ranks) {
  const at::Tensor whole = cv_squared(total_E);
  const at::Tensor share = whole - whole.detach() * (1 - 1.0 / static_cast<double>(ranks));
  return share * (static_cast<double>(context.count.in_micro_batch) /
                  static_cast<double>(context.count.in_step));
}

at::Tensor threshold_loss(const Routing& routing, const at::Tensor& kept_TE,
                          const StepContext& context) {
  const at::Tensor above_TE = routing.weight_TK.detach() - routing.threshold_E;  // choice = expert
  const at::Tensor sign_TE = above_TE.detach().gt(0).to(above_TE.scalar_type()) - kept_TE;
  return without_padding(sign_TE * above_TE, context).sum() /
         static_cast<double>(context.count.in_step);
}

at::Tensor attach_loss(const at::Tensor& x, const at::Tensor& loss) {
  const auto backward = [type = loss.scalar_type()](const at::Tensor& dx,
                                                    const std::vector<bool>&) {
    return std::vector{dx, at::ones({}, type)};
  };
  return differentiable("attach_loss", {x, loss}, x, backward);
}

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
  const at::Tensor &p_TE = routing.probability_TE, &importance_E = decision.importance_E,
                   &load = decision.load_terms;
  const BalanceSlopes& slopes = decision.balance;
  at::Tensor total = at::zeros({}, routing.logits_TE.options());
  const auto add = [&](RouterLoss kind, const at::Tensor& loss) {
    sums.add(kind, loss);
    if (coefficients[kind] > 0) total = total + loss * coefficients[kind];
  };
  const auto add_balance = [&](RouterLoss kind, const at::Tensor& slope_GE) {
    if (slope_GE.defined()) add(kind, balance_loss(p_TE, slope_GE, context));
  };
  if (!context.routing.pool) add_balance(RouterLoss::kBalance, slopes.expert_GE);
  if (slopes.within_GE.defined())
    add(RouterLoss::kBalance, balance_loss_within(routing, decision.enters_T1, slopes.within_GE));
  if (slopes.second_GE.defined())
    add(RouterLoss::kBalance,
        balance_loss(second_place_probability(routing), slopes.second_GE, context));
  add_balance(RouterLoss::kDevice, slopes.device_GE);
  add_balance(RouterLoss::kCommunication, slopes.communication_GE);
  add(RouterLoss::kZ, router_z_loss(routing.logits_TE, context));
  if (importance_E.defined()) {
    const at::Tensor local_E = importance_of(routing, moe.num_experts(), context);
    add(RouterLoss::kImportance,
        cv_loss(total_with_gradient(importance_E, local_E), context, ranks));
  }
  if (load.defined()) {
    const at::Tensor terms = total_with_gradient(load, load_terms(routing, context));
    add(RouterLoss::kLoad, cv_loss(load_from(terms, moe), context, ranks));
  }
  if (routing.threshold_E.defined())
    add(RouterLoss::kThreshold, threshold_loss(routing, decision.kept_TK, context));
  return total;
}

}  // namespace switchyard::models
