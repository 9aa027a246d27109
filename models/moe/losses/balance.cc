#include "models/moe/losses/balance.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/top_k.h"
#include "models/moe/losses/statistics.h"
#include "models/pass/coefficients.h"

namespace switchyard::models {
namespace {

// Real tokens of each group, [groups, 1] float64.
at::Tensor tokens_of_groups(int64_t groups, int64_t group_tokens, const at::Tensor& is_real_T) {
  if (!is_real_T.defined()) {
    return at::full({groups, 1}, static_cast<double>(group_tokens), at::kDouble);
  }
  return is_real_T.view({groups, group_tokens}).sum(1, /*keepdim=*/true).to(at::kDouble);
}

// Tokens of which some choice lies in each group of neighbouring experts: counts [groups, devices].
at::Tensor count_senders(const at::Tensor& expert_TK, const config::Moe& moe, int64_t group_tokens,
                         const at::Tensor& is_real_T) {
  const int64_t each = moe.num_experts() / moe.num_devices();
  const at::Tensor device_TK = expert_TK.floor_divide(each);
  at::Tensor sent_TW =
      at::zeros({expert_TK.size(0), moe.num_devices()}, at::kLong).scatter_(1, device_TK, 1);
  if (is_real_T.defined()) sent_TW = sent_TW * is_real_T.unsqueeze(1);
  return sent_TW.view({-1, group_tokens, moe.num_devices()}).sum(1);
}

// Counts [G, N] per group as fractions of its tokens, of what the statistics take together.
struct Fractions {
  const config::Moe& moe;
  const at::Tensor& is_real_T;
  int64_t group_tokens;
  parallel::Communicator& data;
  LoadTotals* totals;

  // `kind`: the total that these counts belong to.
  at::Tensor of(const at::Tensor& count_GN, at::Tensor LoadTotals::*kind) const {
    const int64_t groups = count_GN.size(0), width = count_GN.size(1);
    const at::Tensor tokens_G1 = tokens_of_groups(groups, group_tokens, is_real_T);
    const at::Tensor counts =
        over_statistics(at::concat({count_GN.to(at::kDouble), tokens_G1}, 1),
                        moe.balance_loss().statistics(), data, totals ? &(totals->*kind) : nullptr);
    return counts.narrow(1, 0, width) / counts.narrow(1, width, 1).clamp_min(1);
  }
};

// What f counts: the choices of the gate that the probabilities are of.
at::Tensor counted_choices(const Routing& routing, const config::Moe& moe) {
  if (routing.groups.group_TL.defined()) return routing.groups.group_TL;
  return moe.balance_loss().load() == config::UNBIASED_CHOICES
             ? top_k_lowest_id(routing.probability_TE, moe.top_k())
             : routing.expert_TK;
}

// f_i as the config defines it.
at::Tensor expert_fraction(const Routing& routing, const Fractions& fractions) {
  const auto which = fractions.moe.balance_loss().load();
  const at::Tensor chosen = counted_choices(routing, fractions.moe);
  const at::Tensor fraction =
      fractions.of(count_load(chosen, routing.probability_TE.size(1), fractions.group_tokens, which,
                              fractions.is_real_T),
                   &LoadTotals::expert);
  return fraction / assignments_per_token(which, chosen.size(1));
}

}  // namespace

BalanceSlopes balance_slopes(const Routing& routing, const config::Moe& moe,
                             const StepContext& context, parallel::Communicator& data,
                             LoadTotals* totals) {
  const Fractions fractions{moe, context.is_real_T, statistics_tokens(moe, context), data, totals};
  const auto experts = static_cast<double>(routing.probability_TE.size(1));
  const double each = 1.0 / static_cast<double>(context.count.in_step);
  const RouterLosses coefficients = router_coefficients(moe, context);
  const auto count = [&](const at::Tensor& chosen, config::LoadFraction which) {
    return count_load(chosen, moe.num_experts(), fractions.group_tokens, which, context.is_real_T);
  };
  // A value per device to one per expert of it.
  const auto spread = [&](const at::Tensor& device_GW) {
    return device_GW.repeat_interleave(moe.num_experts() / moe.num_devices(), 1);
  };
  BalanceSlopes slopes;
  slopes.expert_GE = expert_fraction(routing, fractions) * (experts * each);
  if (moe.balance_loss().second_place()) {
    const at::Tensor second = routing.expert_TK.narrow(1, 1, 1).contiguous();
    slopes.second_GE = fractions.of(count(second, config::FIRST_CHOICE), &LoadTotals::second) *
                       (experts * each / 2);
  }
  if (coefficients[RouterLoss::kDevice] > 0) {
    const at::Tensor all_GE =
        fractions.of(count(routing.expert_TK, config::ALL_CHOICES), &LoadTotals::device);
    const at::Tensor mean_GW = all_GE.view({all_GE.size(0), moe.num_devices(), -1}).mean(-1) *
                               (experts / static_cast<double>(routing.expert_TK.size(1)));
    slopes.device_GE = spread(mean_GW) * each;
  }
  if (coefficients[RouterLoss::kCommunication] > 0) {
    const double scale = static_cast<double>(moe.num_devices()) / moe.router().group_top_k();
    const at::Tensor sent_GW = fractions.of(
        count_senders(routing.expert_TK, moe, fractions.group_tokens, context.is_real_T),
        &LoadTotals::communication);
    slopes.communication_GE = spread(sent_GW) * (scale * each);
  }
  return slopes;
}

at::Tensor group_sums(const at::Tensor& probability_TE, int64_t groups,
                      const StepContext& context) {
  const int64_t experts = probability_TE.size(1);
  const int64_t group_tokens = groups > 0 ? probability_TE.size(0) / groups : 0;
  return without_padding(probability_TE, context).view({groups, group_tokens, experts}).sum(1);
}

at::Tensor balance_loss(const at::Tensor& probability_TE, const at::Tensor& slope_GE,
                        const StepContext& context) {
  const at::Tensor sum_GE = group_sums(probability_TE, slope_GE.size(0), context);
  return (sum_GE * slope_GE.to(sum_GE.scalar_type())).sum();
}

at::Tensor second_place_probability(const Routing& routing) {
  const at::Tensor first = routing.expert_TK.narrow(1, 0, 1);
  const at::Tensor p = routing.probability_TE;
  const at::Tensor others = p.scatter(1, first, 0.0);
  return others / others.sum(-1, true).clamp_min(1e-20);
}

void PooledBalance::add(const at::Tensor& slope_GE, const at::Tensor& sum_GE) {
  SY_CHECK(added_ < num_layers_, "more than {} MoE layers in a pooled balance loss", num_layers_);
  const at::Tensor sum = sum_GE.detach().to(at::kDouble);
  slope_GE_ = added_ ? slope_GE_ + slope_GE : slope_GE;
  sum_GE_ = added_ ? sum_GE_ + sum : sum;
  ++added_;
}

at::Tensor PooledBalance::value() const { return (slope() * sum_GE_).sum(); }

at::Tensor PooledBalance::slope() const {
  SY_CHECK(is_complete(), "{} of {} MoE layers have added to the pooled balance loss", added_,
           num_layers_);
  return slope_GE_ / static_cast<double>(num_layers_ * num_layers_);
}

at::Tensor attach_pooled(const at::Tensor& x, const at::Tensor& sum_GE,
                         const std::shared_ptr<PooledBalance>& pool, double coefficient) {
  const auto backward = [pool, coefficient, type = sum_GE.scalar_type()](const at::Tensor& dx,
                                                                         const std::vector<bool>&) {
    return std::vector{dx, (pool->slope() * coefficient).to(type)};
  };
  return differentiable("attach_pooled", {x, sum_GE}, x, backward);
}

}  // namespace switchyard::models
