#include "models/moe/losses/balance.h"

#include <algorithm>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/top_k.h"
#include "models/moe/placement/assignment.h"

namespace switchyard::models {
namespace {

// What the counts of count_load() add up to per token.
double assignments_per_token(config::LoadFraction which, int64_t choices) {
  const bool by_token = which == config::FIRST_CHOICE || which == config::TOKENS_CHOOSING;
  return by_token ? 1 : static_cast<double>(choices);
}

// Tokens of one group that is counted by itself: a sequence, or a routing group.
int64_t statistics_tokens(const config::Moe& moe, const StepContext& context) {
  const bool by_sequence = moe.balance_loss().statistics() == config::PER_SEQUENCE;
  return by_sequence ? context.group_tokens / moe.capacity().group_sequences()
                     : context.group_tokens;
}

// Counts of such groups, [groups, N] float64, as they are, or added up as the statistics say:
// PER_RANK over this rank's groups, [1, N]; GLOBAL_BATCH over all ranks', **collective** over
// `data`, and on top of `so_far`, which receives the sum (null: nothing came before).
at::Tensor over_statistics(const at::Tensor& count_GN, config::Statistics statistics,
                           parallel::Communicator& data, at::Tensor* so_far) {
  if (statistics == config::PER_RANK) return count_GN.sum(0, /*keepdim=*/true);
  if (statistics != config::GLOBAL_BATCH) return count_GN;
  at::Tensor total_1N = total_over(count_GN.sum(0, /*keepdim=*/true), data);
  if (!so_far) return total_1N;
  if (so_far->defined()) total_1N = total_1N + *so_far;
  *so_far = total_1N;
  return total_1N;
}

// The real tokens of each group, [groups, 1] float64.
at::Tensor tokens_of_groups(int64_t groups, int64_t group_tokens, const at::Tensor& is_real_T) {
  if (!is_real_T.defined()) {
    return at::full({groups, 1}, static_cast<double>(group_tokens), at::kDouble);
  }
  return is_real_T.view({groups, group_tokens}).sum(1, /*keepdim=*/true).to(at::kDouble);
}

// Counts the tokens of which some choice lies on each device's experts, [groups, devices].
at::Tensor count_senders(const at::Tensor& expert_TK, const config::Moe& moe, int64_t group_tokens,
                         const at::Tensor& is_real_T) {
  const int64_t each = moe.num_experts() / moe.num_devices();
  const at::Tensor device_TK = expert_TK.floor_divide(each);
  at::Tensor sent_TW =
      at::zeros({expert_TK.size(0), moe.num_devices()}, at::kLong).scatter_(1, device_TK, 1);
  if (is_real_T.defined()) sent_TW = sent_TW * is_real_T.unsqueeze(1);
  return sent_TW.view({-1, group_tokens, moe.num_devices()}).sum(1);
}

// Turns counts [G, N] of groups into fractions of the tokens that the statistics take together.
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

// The fractions f_i as the config defines them, [groups, E].
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

at::Tensor count_load(const at::Tensor& expert_TK, int64_t num_experts, int64_t group_tokens,
                      config::LoadFraction which, const at::Tensor& is_real_T) {
  const int64_t counted = which == config::FIRST_CHOICE ? 1 : expert_TK.size(1);
  return count_slots(expert_TK.narrow(1, 0, counted),
                     is_real_T.defined() ? is_real_T.unsqueeze(1) : is_real_T, num_experts,
                     group_tokens);
}

at::Tensor total_over(const at::Tensor& local, parallel::Communicator& data) {
  at::Tensor total = local.detach().to(at::kDouble).clone().contiguous();
  data.all_reduce(total.mutable_data_ptr(), total.numel(), DType::kFloat64,
                  parallel::ReduceOp::kSum, "load of the router's losses");
  return total;
}

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

at::Tensor balance_slope_within(const Routing& routing, const at::Tensor& enters_T1,
                                const config::Moe& moe, const StepContext& context,
                                parallel::Communicator& data, LoadTotals* totals) {
  const at::Tensor& group_TL = routing.groups.group_TL;
  const int64_t tokens = group_TL.size(0), kept = group_TL.size(1);
  const int64_t groups = moe.router().num_groups(), size = moe.num_experts() / groups;
  const int64_t each = routing.expert_TK.size(1) / kept;
  const at::Tensor of_best_TJ =
      routing.expert_TK.view({tokens, each, kept}).select(2, 0).contiguous();
  const auto which = moe.balance_loss().load();
  const auto count = [&](config::LoadFraction of, at::Tensor LoadTotals::*kind) {
    const int64_t group_tokens = statistics_tokens(moe, context);
    const at::Tensor count_GE =
        count_load(of_best_TJ, moe.num_experts(), group_tokens, of, enters_T1.flatten())
            .to(at::kDouble);
    return over_statistics(count_GE, moe.balance_loss().statistics(), data,
                           totals ? &(totals->*kind) : nullptr)
        .view({-1, groups, size});
  };
  const at::Tensor count_GAI = count(which, &LoadTotals::within);
  const at::Tensor entering_GA1 =
      count(config::FIRST_CHOICE, &LoadTotals::entering).sum(2, /*keepdim=*/true);
  const at::Tensor fraction_GAI =
      count_GAI / entering_GA1.clamp_min(1) / assignments_per_token(which, each);
  return fraction_GAI.flatten(1) *
         (static_cast<double>(size) / static_cast<double>(context.count.in_step));
}

at::Tensor balance_loss_within(const Routing& routing, const at::Tensor& enters_T1,
                               const at::Tensor& slope_GE) {
  const at::Tensor& p_TLI = routing.groups.probability_TLI;
  const int64_t tokens = p_TLI.size(0), size = p_TLI.size(2);
  const int64_t groups = slope_GE.size(1) / size, statistics = slope_GE.size(0);
  const at::Tensor p_TI = p_TLI.select(1, 0);
  const at::Tensor statistics_T =
      at::arange(tokens, at::kLong).mul(statistics).floor_divide(std::max<int64_t>(tokens, 1));
  const at::Tensor row_T = statistics_T * groups + routing.groups.group_TL.select(1, 0);
  const at::Tensor slope_TI =
      slope_GE.view({statistics * groups, size}).index_select(0, row_T).to(p_TI.scalar_type());
  return (p_TI * slope_TI * enters_T1.to(p_TI.scalar_type())).sum();
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
