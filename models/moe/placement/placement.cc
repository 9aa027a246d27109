#include "models/moe/placement/placement.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "core/tensor/aten.h"
#include "models/moe/placement/capacity.h"
#include "models/moe/router/selection.h"
#include "models/moe/rules/admission.h"
#include "models/moe/rules/weighting.h"
#include "models/pass/on_host.h"

namespace switchyard::models {
namespace {

// [T, K] bool: what may ask for a place by the rules of admission; undefined: all may.
at::Tensor admit(const Routing& routing, const config::Moe& moe, bool training,
                 const at::Tensor& uniform_TN) {
  if (routing.threshold_E.defined()) {
    return training ? at::Tensor() : routing.weight_TK.detach().gt(routing.threshold_E.detach());
  }
  if (moe.router().hierarchy() == config::TWO_LEVEL_BY_IMPORTANCE) {
    return admit_by_importance(routing.groups.share_TL, moe.top_k() / moe.router().group_top_k());
  }
  return admit_later_choices(routing.weight_TK, moe.router(), uniform_TN);
}

// `asks` [T, K] without the slots of padding; undefined: all ask.
at::Tensor of_real_tokens(const at::Tensor& asks_TK, const at::Tensor& expert_TK,
                          const at::Tensor& is_real_T) {
  if (!is_real_T.defined()) return asks_TK;
  const at::Tensor real_TK = is_real_T.unsqueeze(1).expand_as(expert_TK);
  return asks_TK.defined() ? asks_TK.logical_and(real_TK) : real_TK.contiguous();
}

// Sum over real tokens of the entropy of their probabilities, in nats; of a two-level gate, with
// that of the chosen groups' gates by the groups' weights.
at::Tensor entropy(const Routing& routing, const StepContext& context) {
  const auto entropy_of = [](const at::Tensor& p) { return -at::xlogy(p, p).sum(-1); };
  at::Tensor entropy_T = entropy_of(routing.probability_TE.detach());
  if (routing.groups.group_TL.defined()) {
    const at::Tensor within_TL = entropy_of(routing.groups.probability_TLI.detach());
    entropy_T = entropy_T + (routing.groups.share_TL * within_TL).sum(1);
  }
  return without_padding(entropy_T, context).sum();
}

// Sets the capacity that `of` gives for the real tokens of each routing group.
void set_capacity(const std::function<int64_t(int64_t)>& of, const at::Tensor& is_real_T,
                  AssignOptions& options) {
  options.capacity = of(options.group_tokens);
  if (!is_real_T.defined()) return;
  const at::Tensor count_G = on_host(is_real_T.view({-1, options.group_tokens}).sum(1));
  const int64_t* count = count_G.const_data_ptr<int64_t>();
  std::transform(count, count + count_G.numel(), std::back_inserter(options.group_capacity), of);
}

// Places tokens in the first level of TWO_LEVEL_BY_IMPORTANCE, with groups in place of experts:
// [T, L], true for the groups that have a row for the token.
at::Tensor groups_with_room(const Routing& routing, const config::Moe& moe,
                            const StepContext& context) {
  const at::Tensor& group_TL = routing.groups.group_TL;
  AssignOptions options;
  options.policy = moe.capacity().policy();
  options.num_experts = moe.router().num_groups();
  options.group_tokens = context.group_tokens;
  set_capacity([&](int64_t count) { return capacity_of_group(moe, context.training, count); },
               context.is_real_T, options);
  const at::Tensor asks_TL = of_real_tokens({}, group_TL, context.is_real_T);
  return assign(group_TL, {}, asks_TL, options).position_TK.ge(0);
}

// Fills in the assignment; `options` are those of the second level but for its capacity.
void place_by_importance(const Routing& routing, const config::Moe& moe, const StepContext& context,
                         AssignOptions options, Placement& placement) {
  const at::Tensor has_room_TL = groups_with_room(routing, moe, context);
  const int64_t each = routing.expert_TK.size(1) / has_room_TL.size(1);
  const at::Tensor asks_TK = placement.admitted_TK.logical_and(has_room_TL.repeat({1, each}));
  const auto capacity = [&](int64_t count) {
    return capacity_within_group(moe, capacity_of_group(moe, context.training, count));
  };
  set_capacity(capacity, context.is_real_T, options);
  placement.assignment = assign(routing.expert_TK, routing.score_TK, asks_TK, options);
  placement.assignment.num_dropped += placement.admitted_TK.sum() - asks_TK.sum();
  const at::Tensor whole_T1 = routing.groups.share_TL.narrow(1, 0, 1).gt(0.5);
  placement.enters_T1 = has_room_TL.narrow(1, 0, 1).logical_and(whole_T1);
}

}  // namespace

Placement place_slots(const Routing& routing, const config::Moe& moe, const StepContext& context,
                      const AssignDraws& draws) {
  Placement placement;
  placement.admitted_TK = of_real_tokens(admit(routing, moe, context.training, draws.uniform_TN),
                                         routing.expert_TK, context.is_real_T);
  AssignOptions options;
  options.policy = policy_of(moe, context.training);
  options.num_experts = moe.num_experts();
  options.group_tokens = context.group_tokens;
  options.num_devices = std::max(1, moe.num_devices());
  options.experts_choose = experts_choose(moe);
  options.lot_TK = draws.lot_TK;
  options.exempt_T1 = draws.exempt_T1;
  if (moe.router().hierarchy() == config::TWO_LEVEL_BY_IMPORTANCE) {
    place_by_importance(routing, moe, context, std::move(options), placement);
    return placement;
  }
  const auto capacity = [&](int64_t count) {
    return options.policy == config::DEVICE_BUDGET ? device_budget(moe, count)
                                                   : capacity_of(moe, context.training, count);
  };
  set_capacity(capacity, context.is_real_T, options);
  placement.assignment =
      assign(routing.expert_TK, routing.score_TK, placement.admitted_TK, options);
  if (moe.router().hierarchy() == config::TWO_LEVEL) {
    placement.enters_T1 =
        without_padding(at::ones({routing.expert_TK.size(0), 1}, at::kBool), context);
  }
  return placement;
}

at::Tensor kept_slots(const Placement& placement, const config::Moe& moe, at::ScalarType type) {
  const bool matters = moe.router().weighting() == config::RENORMALIZE_KEPT ||
                       moe.router().score() == config::SOFTMAX_OVER_TOKENS;
  return matters ? placement.assignment.position_TK.ge(0).to(type) : at::Tensor();
}

at::Tensor weights_after_drops(const at::Tensor& weight_TK, const at::Tensor& kept_TK,
                               const config::Router& router) {
  if (!kept_TK.defined()) return weight_TK;
  if (router.score() == config::SOFTMAX_OVER_TOKENS) {
    const at::Tensor chosen_T1 = kept_TK.sum(1, /*keepdim=*/true).to(at::kDouble).clamp_min(1);
    return weight_TK * chosen_T1.reciprocal().to(kept_TK.scalar_type());
  }
  // The norm cancels the route_scale of the weights.
  const at::Tensor kept_weight_TK = weight_TK * kept_TK;
  return kept_weight_TK / norm_of_choices(kept_weight_TK, router) * router.route_scale();
}

RoutingSums sums_of(const Routing& routing, const Placement& placement, const config::Moe& moe,
                    const StepContext& context) {
  const Assignment& assignment = placement.assignment;
  const int64_t tokens = routing.expert_TK.size(0), choices = routing.expert_TK.size(1);
  RoutingSums sums;
  sums.tokens =
      context.is_real_T.defined() ? context.is_real_T.sum() : at::full({}, tokens, at::kLong);
  sums.dropped = assignment.num_dropped;
  sums.slots = assignment.num_dropped + assignment.order.slot_N.numel();
  sums.rejected = at::zeros({}, at::kLong);
  sums.router_entropy = entropy(routing, context).to(at::kDouble);
  if (experts_choose(moe)) {
    sums.load_E = assignment.order.count_E;
    return sums;
  }
  // NEXT_FREE: a token's further rounds are for when there is no room.
  const int64_t counted =
      moe.capacity().policy() == config::NEXT_FREE ? int64_t{moe.top_k()} : choices;
  const auto first = [&](const at::Tensor& of_slots_TK) {
    return of_slots_TK.defined() ? of_slots_TK.narrow(1, 0, counted) : of_slots_TK;
  };
  sums.load_E = count_slots(first(routing.expert_TK), first(placement.admitted_TK),
                            moe.num_experts(), std::max<int64_t>(1, tokens))
                    .sum(0);
  if (placement.admitted_TK.defined()) {
    sums.rejected = sums.tokens * choices - placement.admitted_TK.sum();
  }
  return sums;
}

}  // namespace switchyard::models
