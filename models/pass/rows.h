#pragma once
// The rows of a pass, one for each token, where several ranks see the same tokens. Between the
// parts of a layer whose matrices are dealt over these ranks, each rank holds a share of the rows:
// a part gathers all of them before its first matrix, and its last matrix gives terms whose sum is
// dealt again. With one rank every function returns its argument.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/base/layout.h"
#include "parallel/communicator.h"

namespace switchyard::models {

class Rows {
 public:
  Rows() = default;
  // `count` rows over the ranks, which must outlive this.
  Rows(parallel::Communicator& ranks, int64_t count);

  // A copy for `count` rows.
  Rows of(int64_t count) const;

  // Null: this rank sees its tokens alone.
  parallel::Communicator* ranks() const { return ranks_; }
  Place place() const;
  // How many rows there are, of which `share` is this rank's.
  int64_t count(const at::Tensor& share) const { return ranks_ ? count_ : share.size(0); }
  // The number of this rank's first row.
  int64_t first() const;
  // This rank's share of rows that all ranks have, differentiable.
  at::Tensor own(const at::Tensor& rows) const;

  // parallel::gather_rows(), gather_rows_for_all() and sum_to_shares(). **Collective** over the
  // ranks, differentiable.
  at::Tensor gather(const at::Tensor& share) const;
  at::Tensor gather_for_all(const at::Tensor& share) const;
  at::Tensor sum(const at::Tensor& terms) const;
  // For a parameter in a loss that all ranks compute alike: only the first contributes its
  // gradient, since gradients are summed over the ranks.
  at::Tensor once(const at::Tensor& parameter) const;

 private:
  parallel::Communicator* ranks_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace switchyard::models
