#include "models/pass/rows.h"

#include "core/tensor/aten.h"
#include "parallel/collectives.h"

namespace switchyard::models {

Rows::Rows(parallel::Communicator& ranks, int64_t count)
    : ranks_(ranks.size() > 1 ? &ranks : nullptr), count_(count) {}

Rows Rows::of(int64_t count) const {
  Rows rows = *this;
  rows.count_ = count;
  return rows;
}

Place Rows::place() const { return ranks_ ? Place{ranks_->rank(), ranks_->size()} : Place{}; }

int64_t Rows::first() const { return ranks_ ? parallel::share_of_rows(count_, *ranks_).begin : 0; }

at::Tensor Rows::own(const at::Tensor& rows) const {
  return ranks_ ? parallel::own_rows(rows, *ranks_) : rows;
}

at::Tensor Rows::gather(const at::Tensor& share) const {
  return ranks_ ? parallel::gather_rows(share, count_, *ranks_) : share;
}

at::Tensor Rows::gather_for_all(const at::Tensor& share) const {
  return ranks_ ? parallel::gather_rows_for_all(share, count_, *ranks_) : share;
}

at::Tensor Rows::once(const at::Tensor& parameter) const {
  return place().index == 0 ? parameter : parameter * 0 + parameter.detach();
}

at::Tensor Rows::sum(const at::Tensor& terms) const {
  return ranks_ ? parallel::sum_to_shares(terms, *ranks_) : terms;
}

}  // namespace switchyard::models
