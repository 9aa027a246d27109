#pragma once
// Which of a token's later choices may ask for a place at all, before capacity is looked at.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

// [T*K], 1: may ask; empty: all may. The first choice always may. A later choice is judged by its
// share, its weight over the sum of its token's weights (GShard: the normalised gate), against its
// threshold: second_choice_threshold for the second, later_choice_threshold for all after it.
//   AT_RANDOM        uniform < share / threshold; `uniform` [T * (K-1)] in [0, 1), empty in
//                    evaluation, where all may. Threshold 0.5: GShard; 0.2: Mesh-TensorFlow, ST-MoE
//   ABOVE_THRESHOLD  share > threshold
//   NEVER            none; the weights stay those of k choices
std::vector<uint8_t> admit_later_choices(const at::Tensor& weight_TK, const config::Router& router,
                                         const std::vector<float>& uniform);

// TWO_LEVEL_BY_IMPORTANCE, [T*K]: of a group with 1/2 or less of the token's weight (share [T, G])
// only the best of the `each` chosen experts may ask. Choices as in models/moe/rules/two_level.h.
std::vector<uint8_t> admit_by_importance(const at::Tensor& share_TG, int64_t each);

// [T*E]: the experts whose weight exceeds their threshold [E].
std::vector<uint8_t> admit_above(const at::Tensor& weight_TE, const at::Tensor& threshold_E);

}  // namespace switchyard::models
