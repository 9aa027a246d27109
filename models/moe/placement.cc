#include "models/moe/placement.h"

#include <algorithm>

#include "core/tensor/aten.h"
#include "models/moe/admission.h"
#include "models/moe/capacity.h"
#include "models/moe/selection.h"

namespace switchyard::models {
namespace {

std::vector<uint8_t> admit(const Routing& routing, const config::Moe& moe,
                           const StepContext& context, const std::vector<float>& uniform) {
  const int64_t tokens = routing.weight_TK.size(0), choices = routing.weight_TK.size(1);
  std::vector<uint8_t> admitted;
  if (routing.threshold_E.defined()) {
    if (!context.training) admitted = admit_above(routing.weight_TK, routing.threshold_E);
  } else if (moe.router().hierarchy() == config::TWO_LEVEL_BY_IMPORTANCE) {
    admitted = admit_by_importance(routing.weight_TK, moe.router());
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
double entropy(const at::Tensor& probability_TE, const std::vector<uint8_t>& real) {
  at::Tensor p = probability_TE.detach();
  if (!real.empty()) p = p.index_select(0, at::tensor(real, at::kByte).nonzero().squeeze(1));
  return -at::xlogy(p, p).sum().item<double>();
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
  options.capacity = options.policy == config::DEVICE_BUDGET
                         ? device_budget(moe, context.group_tokens)
                         : capacity_of(moe, context.training, context.group_tokens);
  placement.assignment = assign(routing.expert_TK, routing.score_TK, placement.admitted, options);
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
  const auto& [admitted, assignment] = placement;
  const int64_t tokens = routing.expert_TK.size(0), choices = routing.expert_TK.size(1);
  const auto real = real_tokens(context, tokens);
  const auto kept = static_cast<int64_t>(assignment.order.slot.size());
  RoutingStats stats;
  stats.tokens = real.empty() ? tokens : std::count(real.begin(), real.end(), 1);
  stats.dropped = assignment.num_dropped;
  stats.slots = kept + assignment.num_dropped;
  stats.router_entropy = entropy(routing.probability_TE, real);
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
