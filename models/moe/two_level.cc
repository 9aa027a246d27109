#include "models/moe/two_level.h"

#include "core/tensor/aten.h"
#include "models/moe/gate_noise.h"
#include "models/moe/selection.h"

namespace switchyard::models {
namespace {

// The ids of the chosen experts from both gates' scores, [T, A] and [T, A, E/A].
at::Tensor choose(const at::Tensor& group_score_TA, const at::Tensor& score_TAE,
                  const config::Moe& moe) {
  const int64_t tokens = score_TAE.size(0), groups = score_TAE.size(1), size = score_TAE.size(2);
  const int64_t kept = moe.router().group_top_k(), each = moe.top_k() / kept;
  const at::Tensor group_TG1 = top_k_lowest_id(group_score_TA, kept).unsqueeze(2);
  const at::Tensor best_TAk =
      top_k_lowest_id(score_TAE.reshape({-1, size}), each).view({tokens, groups, each});
  const at::Tensor inner_TGk = best_TAk.gather(1, group_TG1.expand({tokens, kept, each}));
  return (group_TG1 * size + inner_TGk).view({tokens, kept * each});
}

// The product of the group's weight among the chosen groups and the expert's among those chosen in
// its group, [T, K].
at::Tensor product_weights(const at::Tensor& group_score_TA, const at::Tensor& score_TAE,
                           const at::Tensor& expert_TK, const config::Router& router) {
  const int64_t tokens = score_TAE.size(0), size = score_TAE.size(2), kept = router.group_top_k();
  const at::Tensor expert_TGk = expert_TK.view({tokens, kept, -1});
  const at::Tensor group_TG = expert_TGk.select(2, 0).div(size, "floor");
  const at::Tensor score_TGk = score_TAE.flatten(1).gather(1, expert_TK).view(expert_TGk.sizes());
  const at::Tensor group_weight_TG = normalize_choices(group_score_TA.gather(1, group_TG), router);
  const at::Tensor weight_TGk = normalize_choices(score_TGk, router);
  return (group_weight_TG.unsqueeze(2) * weight_TGk).flatten(1) * router.route_scale();
}

}  // namespace

Routing route_two_levels(const RouterInput& input, const config::Moe& moe,
                         const RouterDraws& draws) {
  const int64_t tokens = input.logits_TE.size(0), groups = moe.router().num_groups();
  const int64_t kept = moe.router().group_top_k();
  const auto per_group = [&](const at::Tensor& rows_TE) {
    return rows_TE.defined() ? rows_TE.reshape({tokens * groups, -1}) : rows_TE;
  };
  const at::Tensor logits_NE = per_group(input.logits_TE);  // N = T * A rows, one per group's gate
  const NoisyLogits group_noise =
      add_noise(input.group_logits_TA, input.group_noise_logits_TA, draws.group_normal_TA);
  const NoisyLogits noise =
      add_noise(logits_NE, per_group(input.noise_logits_TE), per_group(draws.normal_TE));
  const at::Tensor group_score_TA = group_noise.noisy_TE.softmax(-1);
  const at::Tensor score_TAE = noise.noisy_TE.softmax(-1).view({tokens, groups, -1});

  Routing routing;
  routing.logits_TE = input.logits_TE;
  routing.probability_TE = (group_score_TA.unsqueeze(2) * score_TAE).flatten(1);
  routing.expert_TK =
      input.chosen_TK.defined() ? input.chosen_TK : choose(group_score_TA, score_TAE, moe);
  routing.score_TK = routing.probability_TE.detach().gather(1, routing.expert_TK);
  routing.weight_TK = product_weights(group_score_TA, score_TAE, routing.expert_TK, moe.router());
  routing.group_chance_TA = chance_of_choice(input.group_logits_TA, group_noise, kept);
  const at::Tensor chance_NE = chance_of_choice(logits_NE, noise, moe.top_k() / kept);
  if (chance_NE.defined()) routing.chance_TE = chance_NE.view({tokens, -1});
  const at::Tensor group_TK = routing.expert_TK.div(score_TAE.size(2), "floor");
  routing.in_group_TA = at::zeros_like(group_score_TA.detach()).scatter_(1, group_TK, 1.0);
  return routing;
}

at::Tensor two_level_load_terms(const Routing& routing, const at::Tensor& real_T1) {
  const at::Tensor in_group_TA = routing.in_group_TA.to(at::kDouble) * real_T1;
  const int64_t tokens = in_group_TA.size(0), groups = in_group_TA.size(1);
  const at::Tensor expected_TA =
      routing.group_chance_TA.defined() ? routing.group_chance_TA * real_T1 : in_group_TA;
  at::Tensor chance_TE = routing.chance_TE;
  if (!chance_TE.defined()) {
    chance_TE = at::zeros_like(routing.logits_TE.detach()).scatter_(1, routing.expert_TK, 1.0);
  }
  const at::Tensor within_TAE =
      chance_TE.to(at::kDouble).view({tokens, groups, -1}) * in_group_TA.unsqueeze(2);
  return at::concat({expected_TA.sum(0), in_group_TA.sum(0), within_TAE.sum(0).flatten()});
}

at::Tensor two_level_load(const at::Tensor& terms, int64_t num_groups) {
  const at::Tensor expected_A1 = terms.narrow(0, 0, num_groups).unsqueeze(1);
  const at::Tensor tokens_A1 = terms.narrow(0, num_groups, num_groups).unsqueeze(1);
  const at::Tensor within_AE =
      terms.narrow(0, 2 * num_groups, terms.numel() - 2 * num_groups).view({num_groups, -1});
  return (expected_A1 * within_AE / tokens_A1.clamp_min(1)).flatten();
}

}  // namespace switchyard::models
