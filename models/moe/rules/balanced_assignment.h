#pragma once
// One expert for each token, equally many tokens for each expert, by solving the assignment problem
// (Lewis et al., 2021, "BASE layers").

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard::models {

// logits [T, E] -> [T, 1] int64. In each group of S tokens an expert has at most ceil(S / E), and
// the sum of the chosen logits is at most 0.0015 per token, and 0.0005 per place left free, below
// the greatest there is: logits are rounded to 1/1024, and the auction ends within 0.0005.
// is_real [T] bool may be undefined; padding gets expert 0 and takes no place. Logits that are not
// finite, or beyond 1e9, are not balanced: each token gets its best expert. No gradient.
at::Tensor balanced_assignment(const at::Tensor& logits_TE, int64_t group_tokens,
                               const at::Tensor& is_real_T);

}  // namespace switchyard::models
