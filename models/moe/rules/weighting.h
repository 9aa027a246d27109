#pragma once
// From the scores of the chosen experts to the weights of their outputs, by router.weighting.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

// `norm`, but not so small that a division by it fails: float32 sigmoids may underflow to 0 all
// together.
at::Tensor positive(const at::Tensor& norm);

// What RENORMALIZE and RENORMALIZE_KEPT divide the scores of the chosen [..., K] by, [..., 1]:
// their weight_norm-norm; above 0 whatever underflows.
at::Tensor norm_of_choices(const at::Tensor& chosen_score, const config::Router& router);

// The scores of the chosen, [..., K], divided by their norm over the last axis as the weighting
// says.
at::Tensor normalize_choices(const at::Tensor& chosen_score, const config::Router& router);

// Weights of the chosen experts from their scores [T, K], before any drop.
at::Tensor choice_weights(const at::Tensor& chosen_score_TK, const config::Router& router);

}  // namespace switchyard::models
