#pragma once
// Which of a token's later choices may ask for a place at all, before capacity is looked at.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

// [T, K] bool, whether a choice may ask; undefined: all may. The first choice always may. A later
// choice is judged by its share, its weight over the sum of its token's weights (GShard: the
// normalised gate), against its threshold: second_choice_threshold for the second,
// later_choice_threshold for all after it.
//   AT_RANDOM        uniform < share / threshold; `uniform` [T, K-1] in [0, 1), undefined in
//                    evaluation, where all may. Threshold 0.5: GShard; 0.2: Mesh-TensorFlow, ST-MoE
//   ABOVE_THRESHOLD  share > threshold
//   NEVER            none; the weights stay those of k choices
at::Tensor admit_later_choices(const at::Tensor& weight_TK, const config::Router& router,
                               const at::Tensor& uniform_TN);

// TWO_LEVEL_BY_IMPORTANCE, [T, K] bool: of a group with 1/2 or less of the token's weight (share
// [T, L]) only the best of the `each` chosen experts may ask. Choices as in two_level.h.
at::Tensor admit_by_importance(const at::Tensor& share_TL, int64_t each);

}  // namespace switchyard::models
