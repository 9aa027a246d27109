#include "models/moe/router/selection.h"

#include <limits>

#include "core/tensor/aten.h"
#include "core/tensor/top_k.h"

namespace switchyard::models {
bool experts_choose(const config::Moe& moe) {
  const config::Selection selection = moe.router().selection();
  return selection == config::EXPERT_CHOICE || selection == config::STRICTLY_BALANCED;
}

int64_t num_choices(const config::Moe& moe) {
  if (experts_choose(moe)) return moe.num_experts();
  const bool tries = moe.capacity().policy() == config::NEXT_FREE && moe.capacity().rounds() > 0;
  return tries ? moe.capacity().rounds() : moe.top_k();
}

at::Tensor keep_best_groups(const at::Tensor& score_TE, const config::Router& router) {
  const at::Tensor score = score_TE.detach();
  const int64_t tokens = score.size(0), experts = score.size(1), groups = router.num_groups();
  const at::Tensor grouped = score.view({tokens, groups, experts / groups});
  const at::Tensor group_score =
      std::get<0>(grouped.topk(router.group_score_experts(), -1)).sum(-1);
  const at::Tensor best = top_k_lowest_id(group_score, router.group_top_k());
  const at::Tensor hidden = at::ones({tokens, groups}, at::kBool).scatter_(1, best, false);
  return grouped.masked_fill(hidden.unsqueeze(-1), -std::numeric_limits<double>::infinity())
      .view({tokens, experts});
}

at::Tensor sample_by_score(const at::Tensor& score_TE, const at::Tensor& gumbel_TE, int64_t k) {
  return top_k_lowest_id(score_TE.detach().log() + gumbel_TE, k);
}

at::Tensor best_and_sampled(const at::Tensor& score_TE, const at::Tensor& gumbel_TE) {
  const at::Tensor first = top_k_lowest_id(score_TE, 1);
  const at::Tensor rest = score_TE.detach().scatter(1, first, 0.0);  // logarithm: -infinity
  return at::concat({first, sample_by_score(rest, gumbel_TE, 1)}, 1);
}

}  // namespace switchyard::models
