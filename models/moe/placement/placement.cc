#include "models/moe/placement/placement.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "core/tensor/aten.h"
#include "models/moe/losses/losses.h"
#include "models/moe/placement/capacity.h"
#include "models/moe/router/selection.h"
#include "models/moe/rules/admission.h"
#include "models/moe/rules/two_level.h"

namespace switchyard::models {
namespace {

std::vector<uint8_t> admit(const Routing& routing, const config::Moe& moe,
                           const StepContext& context, const std::vector<float>& uniform) {
  const int64_t tokens = routing.weight_TK.size(0), choices = routing.weight_TK.size(1);
  std::vector<uint8_t> admitted;
  if (routing.threshold_E.defined()) {
    if (!context.training) admitted = admit_above(routing.weight_TK, routing.threshold_E);
  } else if (moe.router().hierarchy() == config::TWO_LEVEL_BY_IMPORTANCE) {
    admitted = admit_by_importance(routing.groups.share_TG, choices / moe.router().group_top_k());
  } else {
    admitted = admit_later_choices(routing.weight_TK, moe.router(), uniform);
  }
  if (const auto real = real_tokens(context, tokens); !real.empty()) {
    admitted.resize(tokens * choices, 1);
    for (int64_t n = 0; n < tokens * choices; ++n) admitted[n] &= real[n / choices];
  }
  return admitted;
}

// Sum over tokens of the entropy of their probabilities.
double entropy(const Routing& routing, const std::vector<uint8_t>& real) {
  at::Tensor entropy_T;
  if (routing.groups.group_TG.defined()) {
    entropy_T = two_level_entropy(routing);
  } else {
    const at::Tensor p = routing.probability_TE.detach();
    entropy_T = -at::xlogy(p, p).sum(-1);
  }
  if (!real.empty()) entropy_T = entropy_T.masked_fill(at::tensor(real, at::kByte).eq(0), 0);
  return entropy_T.sum().item<double>();
}

// What `of` gives for the real tokens of each routing group.
void set_capacity(const std::function<int64_t(int64_t)>& of, const std::vector<uint8_t>& real,
                  AssignOptions& options) {
  options.capacity = of(options.group_tokens);
  for (auto first = real.begin(); first != real.end(); first += options.group_tokens) {
    options.group_capacity.push_back(of(std::count(first, first + options.group_tokens, 1)));
  }
}

// The first level of TWO_LEVEL_BY_IMPORTANCE, groups in place of experts: [T, G], 1 for the groups
// that have a row for the token.
at::Tensor groups_with_room(const Routing& routing, const config::Moe& moe,
                            const StepContext& context) {
  const at::Tensor& group_TG = routing.groups.group_TG;
  const int64_t kept = group_TG.size(1);
  const auto real = real_tokens(context, group_TG.size(0));
  std::vector<uint8_t> asks(real.empty() ? 0 : group_TG.numel());
  for (size_t n = 0; n < asks.size(); ++n) asks[n] = real[n / kept];
  AssignOptions options;
  options.policy = moe.capacity().policy();
  options.num_experts = moe.router().num_groups();
  options.group_tokens = context.group_tokens;
  set_capacity([&](int64_t count) { return capacity_of_group(moe, context.training, count); }, real,
               options);
  const Assignment rows = assign(group_TG, {}, asks, options);
  return at::tensor(rows.position, at::kLong).ge(0).view(group_TG.sizes());
}

// Fills in the assignment; `options` are those of the second level but for its capacity.
void place_by_importance(const Routing& routing, const config::Moe& moe, const StepContext& context,
                         AssignOptions options, Placement& placement) {
  const at::Tensor has_room_TG = groups_with_room(routing, moe, context);
  const bool* has_room = has_room_TG.const_data_ptr<bool>();
  const int64_t choices = routing.expert_TK.size(1), kept = has_room_TG.size(1);
  std::vector<uint8_t> asks = placement.admitted;
  for (size_t n = 0; n < asks.size(); ++n) {
    const auto slot = static_cast<int64_t>(n);
    asks[n] &= has_room[slot / choices * kept + slot % kept];
  }
  const auto capacity = [&](int64_t count) {
    return capacity_within_group(moe, capacity_of_group(moe, context.training, count));
  };
  set_capacity(capacity, real_tokens(context, has_room_TG.size(0)), options);
  placement.assignment = assign(routing.expert_TK, routing.score_TK, asks, options);
  placement.assignment.num_dropped +=
      std::count(placement.admitted.begin(), placement.admitted.end(), 1) -
      std::count(asks.begin(), asks.end(), 1);
  const at::Tensor whole_T1 = routing.groups.share_TG.narrow(1, 0, 1).gt(0.5);
  placement.enters_T1 = has_room_TG.narrow(1, 0, 1).logical_and(whole_T1);
}

}  // namespace

Placement place_slots(const Routing& routing, const config::Moe& moe, const StepContext& context,
                      const AssignDraws& draws) {
  Placement placement;
  placement.admitted = admit(routing, moe, context, draws.uniform);
  AssignOptions options;
  options.policy = policy_of(moe, context.training);
  options.num_experts = moe.num_experts();
  options.group_tokens = context.group_tokens;
  options.num_devices = std::max(1, moe.num_devices());
  options.experts_choose = experts_choose(moe);
  options.lot = draws.lot;
  options.exempt = draws.exempt;
  if (moe.router().hierarchy() == config::TWO_LEVEL_BY_IMPORTANCE) {
    place_by_importance(routing, moe, context, std::move(options), placement);
    return placement;
  }
  const auto capacity = [&](int64_t count) {
    return options.policy == config::DEVICE_BUDGET ? device_budget(moe, count)
                                                   : capacity_of(moe, context.training, count);
  };
  set_capacity(capacity, real_tokens(context, routing.expert_TK.size(0)), options);
  placement.assignment = assign(routing.expert_TK, routing.score_TK, placement.admitted, options);
  if (moe.router().hierarchy() == config::TWO_LEVEL) {
    placement.enters_T1 =
        without_padding(at::ones({routing.expert_TK.size(0), 1}, at::kBool), context);
  }
  return placement;
}

at::Tensor token_scale(const Placement& placement, const config::Moe& moe, at::ScalarType type) {
  if (moe.router().score() != config::SOFTMAX_OVER_TOKENS) return {};
  const parallel::SlotOrder& order = placement.assignment.order;
  at::Tensor chosen_T1 = at::zeros({order.num_tokens, 1}, at::kDouble);
  auto* chosen = chosen_T1.mutable_data_ptr<double>();
  for (const int64_t slot : order.slot) ++chosen[slot / order.top_k];
  return chosen_T1.clamp_min(1).reciprocal().to(type);
}

at::Tensor kept_slots(const Placement& placement, const config::Moe& moe, at::ScalarType type) {
  if (moe.router().weighting() != config::RENORMALIZE_KEPT) return {};
  const std::vector<int64_t>& position = placement.assignment.position;
  return at::tensor(position, at::kLong)
      .ge(0)
      .to(type)
      .view({-1, placement.assignment.order.top_k});
}

at::Tensor weights_after_drops(const at::Tensor& weight_TK, const at::Tensor& token_scale_T1,
                               const at::Tensor& kept_TK, const config::Router& router) {
  if (token_scale_T1.defined()) return weight_TK * token_scale_T1;
  if (!kept_TK.defined()) return weight_TK;
  const at::Tensor kept_weight_TK =
      weight_TK * kept_TK;  // with route_scale, which the norm cancels
  return kept_weight_TK / norm_of_choices(kept_weight_TK, router) * router.route_scale();
}

RoutingStats stats_of(const Routing& routing, const Placement& placement, const config::Moe& moe,
                      const StepContext& context) {
  const std::vector<uint8_t>& admitted = placement.admitted;
  const Assignment& assignment = placement.assignment;
  const int64_t tokens = routing.expert_TK.size(0), choices = routing.expert_TK.size(1);
  const auto real = real_tokens(context, tokens);
  const auto kept = static_cast<int64_t>(assignment.order.slot.size());
  RoutingStats stats;
  stats.tokens = real.empty() ? tokens : std::count(real.begin(), real.end(), 1);
  stats.dropped = assignment.num_dropped;
  stats.slots = kept + assignment.num_dropped;
  stats.router_entropy = entropy(routing, real);
  if (experts_choose(moe)) {
    stats.load = assignment.order.count;
    return stats;
  }
  stats.load.assign(moe.num_experts(), 0);
  // NEXT_FREE: a token's further rounds are for when there is no room.
  const int64_t counted =
      moe.capacity().policy() == config::NEXT_FREE ? int64_t{moe.top_k()} : choices;
  const int64_t* expert = routing.expert_TK.const_data_ptr<int64_t>();
  for (int64_t n = 0; n < tokens * choices; ++n) {
    if (n % choices < counted && (admitted.empty() || admitted[n])) ++stats.load[expert[n]];
  }
  if (!admitted.empty()) {
    stats.rejected = stats.tokens * choices - std::count(admitted.begin(), admitted.end(), 1);
  }
  return stats;
}

}  // namespace switchyard::models
