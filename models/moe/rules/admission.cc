#include "models/moe/rules/admission.h"

#include <algorithm>

#include "core/tensor/aten.h"

namespace switchyard::models {

at::Tensor admit_later_choices(const at::Tensor& weight_TK, const config::Router& router,
                               const at::Tensor& uniform_TN) {
  const auto policy = router.second_choice();
  const bool at_random = policy == config::AT_RANDOM && uniform_TN.defined();
  if (!at_random && policy != config::ABOVE_THRESHOLD && policy != config::NEVER) return {};

  const int64_t tokens = weight_TK.size(0), later = weight_TK.size(1) - 1;
  const at::Tensor weight = weight_TK.detach().to(at::kDouble);
  const at::Tensor share_TN = (weight / weight.sum(-1, true)).narrow(1, 1, later);
  at::Tensor threshold_1N = at::full({1, later}, router.later_choice_threshold(), at::kDouble);
  threshold_1N.narrow(1, 0, std::min<int64_t>(1, later)).fill_(router.second_choice_threshold());
  const at::Tensor first_T1 = at::ones({tokens, 1}, at::kBool);
  at::Tensor may_TN = at::zeros({tokens, later}, at::kBool);
  if (at_random) may_TN = uniform_TN.lt(share_TN / threshold_1N);
  if (policy == config::ABOVE_THRESHOLD) may_TN = share_TN.gt(threshold_1N);
  return at::concat({first_T1, may_TN}, 1);
}

at::Tensor admit_by_importance(const at::Tensor& share_TL, int64_t each) {
  const at::Tensor is_best_J1 = at::arange(each, at::kLong).eq(0).unsqueeze(1);
  return share_TL.gt(0.5).unsqueeze(1).logical_or(is_best_J1).flatten(1);
}

}  // namespace switchyard::models
