#pragma once
// Sinkhorn's algorithm: scores under which experts are chosen evenly (Clark et al., 2022).

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard::models {

// exp(logits) [T, E] float64 of each group of tokens, scaled by rows and columns until every token
// has mass 1/S and every expert 1/E, to 1e-4 or 100 rounds, and rounded to 2^-16 of the even mass
// 1/(S E), where S are the group's tokens. is_real [T] bool may be undefined; padding has mass
// 0. No gradient.
at::Tensor sinkhorn(const at::Tensor& logits_TE, int64_t group_tokens, const at::Tensor& is_real_T);

}  // namespace switchyard::models
