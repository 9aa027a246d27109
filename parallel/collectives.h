#pragma once
// Collectives that are operations of autograd's graph, for layers whose matrices are dealt over a
// group of ranks that see the same tokens. Between such layers each rank holds a share of the rows
// (one row per token): norms, dropout and the residual stream then cost each rank its share alone.
// Korthikanti et al. (2022), "Reducing activation recomputation in large transformer models",
// section 4.2.2 (sequence parallelism).
//
// Each pair of a collective and its gradient moves what one all-reduce would.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/base/layout.h"
#include "parallel/communicator.h"

namespace switchyard::parallel {

// The rows of `count` that a rank of the group holds: neighbours, as many as every other rank's
// but for the last ranks, which may have fewer or none.
Slice share_of_rows(int64_t count, const Communicator& group);

// This rank's rows [share, ...] of rows [T, ...] that every rank has; a view, differentiable: other
// rows get no gradient here.
at::Tensor own_rows(const at::Tensor& rows, const Communicator& group);

// **Collective, differentiable.** The rows [T, ...] of which this rank has its share, or the first
// rows of it: what is missing is zero. `rows` says how many there are. Every rank then computes
// something else from them, so that the gradient is the sum over ranks; it is summed in float32
// (float64).
at::Tensor gather_rows(const at::Tensor& share, int64_t rows, Communicator& group);

// **Collective, differentiable.** The same where every rank computes the same from the rows: each
// knows the whole gradient of its share.
at::Tensor gather_rows_for_all(const at::Tensor& share, int64_t rows, Communicator& group);

// **Collective, differentiable.** This rank's share of the sum over ranks of `terms` [T, ...],
// added up in float32 (float64) and in rank order.
at::Tensor sum_to_shares(const at::Tensor& terms, Communicator& group);

}  // namespace switchyard::parallel
