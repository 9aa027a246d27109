#include "models/moe/rules/weighting.h"

#include "core/tensor/aten.h"

namespace switchyard::models {

at::Tensor positive(const at::Tensor& norm) { return norm.clamp_min(1e-20); }

at::Tensor norm_of_choices(const at::Tensor& chosen_score, const config::Router& router) {
  return positive(router.weight_norm() == 1 ? chosen_score.sum(-1, true)
                                            : chosen_score.norm(router.weight_norm(), {-1}, true));
}

at::Tensor normalize_choices(const at::Tensor& chosen_score, const config::Router& router) {
  if (router.weighting() == config::RENORMALIZE) {
    return chosen_score / norm_of_choices(chosen_score, router);
  }
  if (router.weighting() == config::EQUAL) {
    return at::full_like(chosen_score, 1.0 / static_cast<double>(chosen_score.size(-1)));
  }
  return chosen_score;  // RENORMALIZE_KEPT waits for the drops
}

at::Tensor choice_weights(const at::Tensor& chosen_score_TK, const config::Router& router) {
  const at::Tensor weight = normalize_choices(chosen_score_TK, router);
  return router.route_scale() == 1 ? weight : weight * router.route_scale();
}

}  // namespace switchyard::models
