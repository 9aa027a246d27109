#include "models/moe/rules/two_level.h"

#include <vector>

#include "core/tensor/aten.h"
#include "core/tensor/top_k.h"
#include "models/moe/rules/gate_noise.h"
#include "models/moe/rules/weighting.h"
#include "models/pass/on_host.h"

namespace switchyard::models {
namespace {

// Keeps the rows of the gates within groups that a token asks: [T, E] or [T, L I] -> [T L, I].
at::Tensor of_asked_gates(const at::Tensor& rows, const at::Tensor& group_TL,
                          const RouterInput& input, const config::Moe& moe) {
  const int64_t groups = moe.router().num_groups(), size = moe.num_experts() / groups;
  if (!rows.defined()) return rows;
  if (input.group_TL.defined()) return rows.reshape({-1, size});
  const at::Tensor rows_TAI = rows.view({rows.size(0), groups, size});
  return rows_TAI.gather(1, group_TL.unsqueeze(2).expand({-1, -1, size})).view({-1, size});
}

// Brings [T, L, J] into the order of choices, [T, K].
at::Tensor as_choices(const at::Tensor& of_groups_TLJ) {
  return of_groups_TLJ.transpose(1, 2).flatten(1);
}

// The choices' ids within their groups, [T, L, J].
at::Tensor within_groups(const at::Tensor& expert_TK, const at::Tensor& group_TL, int64_t size) {
  const int64_t tokens = group_TL.size(0), kept = group_TL.size(1);
  const at::Tensor expert_TJL = expert_TK.view({tokens, expert_TK.size(1) / kept, kept});
  return expert_TJL.transpose(1, 2) - group_TL.unsqueeze(2) * size;
}

}  // namespace

at::Tensor choose_groups(const RouterInput& input, const config::Moe& moe,
                         const RouterDraws& draws) {
  const config::Router& router = moe.router();
  if (input.chosen_TK.defined()) {
    const at::Tensor best_TL = input.chosen_TK.narrow(1, 0, router.group_top_k());
    return best_TL.div(moe.num_experts() / router.num_groups(), "floor").contiguous();
  }
  const NoisyLogits logits =
      add_noise(input.group_logits_TA, input.group_noise_logits_TA, draws.group_normal_TA);
  return top_k_lowest_id(logits.noisy_TE, router.group_top_k());
}

at::Tensor logits_within_groups(const at::Tensor& x_TD, const at::Tensor& weight_ED,
                                const at::Tensor& group_TL, int64_t num_groups) {
  const int64_t tokens = group_TL.size(0), kept = group_TL.size(1);
  const at::Tensor flat_N = group_TL.flatten();
  const at::Tensor slot_N = flat_N.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
  const at::Tensor count_A = on_host(at::bincount(flat_N, {}, num_groups));
  const at::Tensor rows_ND = x_TD.index_select(0, slot_N.div(kept, "floor"));
  const std::vector<at::Tensor> rows =
      rows_ND.split_with_sizes(at::IntArrayRef(count_A.const_data_ptr<int64_t>(), num_groups));
  const std::vector<at::Tensor> weights = weight_ED.view({num_groups, -1, x_TD.size(1)}).unbind();
  std::vector<at::Tensor> logits(num_groups);
  for (int64_t g = 0; g < num_groups; ++g) logits[g] = at::mm(rows[g], weights[g].t());
  const at::Tensor place_N = at::empty_like(slot_N).scatter_(0, slot_N, at::arange(slot_N.numel()));
  return at::concat(logits)
      .index_select(0, place_N)
      .view({tokens, kept * weight_ED.size(0) / num_groups});
}

Routing route_two_levels(const RouterInput& input, const config::Moe& moe,
                         const RouterDraws& draws) {
  const config::Router& router = moe.router();
  const int64_t kept = router.group_top_k(), each = moe.top_k() / kept;
  const int64_t size = moe.num_experts() / router.num_groups();
  Routing routing;
  GroupRouting& groups = routing.groups;
  groups.group_TL = input.group_TL.defined() ? input.group_TL : choose_groups(input, moe, draws);
  const int64_t tokens = groups.group_TL.size(0);
  const auto asked = [&](const at::Tensor& rows) {
    return of_asked_gates(rows, groups.group_TL, input, moe);
  };
  const NoisyLogits outer =
      add_noise(input.group_logits_TA, input.group_noise_logits_TA, draws.group_normal_TA);
  const at::Tensor logits_NI = asked(input.logits_TE);
  const NoisyLogits inner =
      add_noise(logits_NI, asked(input.noise_logits_TE), asked(draws.normal_TE));
  routing.logits_TE = input.group_logits_TA;
  routing.probability_TE = outer.noisy_TE.softmax(-1);
  groups.probability_TLI = inner.noisy_TE.softmax(-1).view({tokens, kept, size});

  const at::Tensor within_TLJ =
      input.chosen_TK.defined() ? within_groups(input.chosen_TK, groups.group_TL, size)
                                : top_k_lowest_id(inner.noisy_TE, each).view({tokens, kept, each});
  routing.expert_TK = as_choices(within_TLJ + groups.group_TL.unsqueeze(2) * size);
  const at::Tensor score_TL = routing.probability_TE.gather(1, groups.group_TL);
  const at::Tensor score_TLJ = groups.probability_TLI.gather(2, within_TLJ);
  const at::Tensor weight_TL = normalize_choices(score_TL, router);
  const at::Tensor weight_TLJ = weight_TL.unsqueeze(2) * normalize_choices(score_TLJ, router);
  routing.weight_TK = as_choices(weight_TLJ) * router.route_scale();
  routing.score_TK = as_choices(score_TL.unsqueeze(2) * score_TLJ).detach();
  groups.share_TL = (score_TL / norm_of_choices(score_TL, router)).detach();
  groups.chance_TA = chance_of_choice(input.group_logits_TA, outer, kept);
  const at::Tensor chance_NI = chance_of_choice(logits_NI, inner, each);
  if (chance_NI.defined()) groups.chance_TLI = chance_NI.view({tokens, kept, size});
  return routing;
}

at::Tensor two_level_load_terms(const Routing& routing, const at::Tensor& real_T1) {
  const GroupRouting& groups = routing.groups;
  const int64_t size = groups.probability_TLI.size(2);
  const at::Tensor in_group_TA =
      at::zeros(routing.probability_TE.sizes(), at::kDouble).scatter_(1, groups.group_TL, 1.0) *
      real_T1;
  const at::Tensor expected_TA =
      groups.chance_TA.defined() ? groups.chance_TA * real_T1 : in_group_TA;
  at::Tensor chance_TLI = groups.chance_TLI;
  if (!chance_TLI.defined()) {
    chance_TLI = at::zeros(groups.probability_TLI.sizes(), at::kDouble)
                     .scatter_(2, within_groups(routing.expert_TK, groups.group_TL, size), 1.0);
  }
  const at::Tensor real_TLI = chance_TLI.to(at::kDouble) * real_T1.unsqueeze(2);
  const at::Tensor within_AI = at::zeros({routing.probability_TE.size(1), size}, at::kDouble)
                                   .index_add(0, groups.group_TL.flatten(), real_TLI.flatten(0, 1));
  return at::concat({expected_TA.sum(0), in_group_TA.sum(0), within_AI.flatten()});
}

at::Tensor two_level_load(const at::Tensor& terms, int64_t num_groups) {
  const at::Tensor expected_A1 = terms.narrow(0, 0, num_groups).unsqueeze(1);
  const at::Tensor tokens_A1 = terms.narrow(0, num_groups, num_groups).unsqueeze(1);
  const at::Tensor within_AI =
      terms.narrow(0, 2 * num_groups, terms.numel() - 2 * num_groups).view({num_groups, -1});
  return (expected_A1 * within_AI / tokens_A1.clamp_min(1)).flatten();
}

}  // namespace switchyard::models
