#pragma once
// The largest of each row, with a fixed rule for ties.

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace switchyard {

// The columns of the k largest values of each row [T, N], largest first, as [T, k] int64. Of equal
// values the one in the lowest column comes first, which at::topk does not promise. No gradient.
at::Tensor top_k_lowest_id(const at::Tensor& score_TN, int64_t k);

}  // namespace switchyard
