#include "models/moe/rules/admission.h"

#include "core/tensor/aten.h"
#include "core/tensor/flags.h"

namespace switchyard::models {
std::vector<uint8_t> admit_later_choices(const at::Tensor& weight_TK, const config::Router& router,
                                         const std::vector<float>& uniform) {
  const auto policy = router.second_choice();
  const bool at_random = policy == config::AT_RANDOM && !uniform.empty();
  if (!at_random && policy != config::ABOVE_THRESHOLD && policy != config::NEVER) return {};

  const int64_t tokens = weight_TK.size(0), choices = weight_TK.size(1);
  const at::Tensor weight = weight_TK.detach().to(at::kDouble);
  const at::Tensor share_TK = (weight / weight.sum(-1, true)).contiguous();
  const double* share = share_TK.const_data_ptr<double>();
  std::vector<uint8_t> admitted(tokens * choices, 1);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t j = 1; j < choices; ++j) {
      const int64_t n = t * choices + j;
      const double threshold =
          j == 1 ? router.second_choice_threshold() : router.later_choice_threshold();
      admitted[n] = at_random ? uniform[t * (choices - 1) + j - 1] < share[n] / threshold
                              : policy == config::ABOVE_THRESHOLD && share[n] > threshold;
    }
  }
  return admitted;
}

std::vector<uint8_t> admit_by_importance(const at::Tensor& share_TG, int64_t each) {
  const at::Tensor is_best_J1 = at::arange(each, at::kLong).eq(0).unsqueeze(1);
  return flags_of(share_TG.gt(0.5).unsqueeze(1).logical_or(is_best_J1));
}

std::vector<uint8_t> admit_above(const at::Tensor& weight_TE, const at::Tensor& threshold_E) {
  return flags_of(weight_TE.detach().gt(threshold_E.detach()));
}

}  // namespace switchyard::models
