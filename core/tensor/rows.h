#pragma once
// Row kernels of dispatch and combine: copies and sums of whole rows by index, at memory speed,
// without atomics, so that they are deterministic. Not differentiable by themselves;
// parallel/exchange.cc builds its ops from them. Types: float64, float32 or bfloat16 rows; sums run
// in float32 (float64 for float64 rows).

#include <ATen/core/Tensor.h>

namespace switchyard {

// out[i] = source[index[i]]; index [n] int64; a negative index gives a row of zeros. out [n, D].
void gather_rows(const at::Tensor& source, const at::Tensor& index, at::Tensor& out);

// out[i] = sum over j of source[position[i, j]], in the order of j, skipping negative positions.
// position [n, K] int64 -> [n, D] in source's type.
at::Tensor sum_rows(const at::Tensor& source_RD, const at::Tensor& position_TK);

// As sum_rows, each row times weight[i, j]; weight [n, K] float32 (float64 for float64 rows).
at::Tensor weighted_sum_rows(const at::Tensor& source_RD, const at::Tensor& weight_TK,
                             const at::Tensor& position_TK);

// The two gradients of weighted_sum_rows for an output gradient [n, D]:
//   rows_RD[position[i, j]] = weight[i, j] * grad[i]   (rows that no position names stay untouched)
//   weight_TK[i, j] = <grad[i], source[position[i, j]]>, 0 where the position is negative
struct WeightedSumGrad {
  at::Tensor rows_RD;    // source's shape and type
  at::Tensor weight_TK;  // weight's shape and type
};
WeightedSumGrad weighted_sum_rows_backward(const at::Tensor& grad_TD, const at::Tensor& source_RD,
                                           const at::Tensor& weight_TK,
                                           const at::Tensor& position_TK);

}  // namespace switchyard
