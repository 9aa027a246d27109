#pragma once
// Selections under which a routing group's experts get equally many tokens. Neither has a gradient;
// is_real [T] bool may be undefined.

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard::models {

// Sinkhorn's algorithm, scores under which experts are chosen evenly (Clark et al., 2022):
// exp(logits) [T, E] float64 of each group of tokens, scaled by rows and columns until every token
// has mass 1/S and every expert 1/E, to 1e-4 or 100 rounds, and rounded to 2^-16 of the even mass
// 1/(S E), where S are the group's tokens. Padding has mass 0.
at::Tensor sinkhorn(const at::Tensor& logits_TE, int64_t group_tokens, const at::Tensor& is_real_T);

// One expert for each token by solving the assignment problem (Lewis et al., 2021, "BASE layers"):
// logits [T, E] -> [T, 1] int64. In each group of S tokens an expert has at most ceil(S / E), and
// the sum of the chosen logits is at most 0.0015 per token, and 0.0005 per place left free, below
// the greatest there is: logits are rounded to 1/1024, and the auction ends within 0.0005. Padding
// gets expert 0 and takes no place. Logits that are not finite, or beyond 1e9, are not balanced:
// each token gets its best expert.
at::Tensor balanced_assignment(const at::Tensor& logits_TE, int64_t group_tokens,
                               const at::Tensor& is_real_T);

}  // namespace switchyard::models
