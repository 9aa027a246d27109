#include "parallel/collectives.h"

#include <algorithm>
#include <string>

#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/profiled_part.h"

namespace switchyard::parallel {
namespace {

// Rows of each rank but the last ones, which collectives of equal shares fill up with zeros.
int64_t rows_per_rank(int64_t count, const Communicator& group) {
  return (count + group.size() - 1) / group.size();
}

// [rows, ...]: `x` and zero rows after it.
at::Tensor filled_up(const at::Tensor& x, int64_t rows) {
  if (x.size(0) == rows) return x.contiguous();
  std::vector<int64_t> shape = x.sizes().vec();
  shape[0] = rows - x.size(0);
  return at::concat({x, at::zeros(shape, x.options())});
}

at::Tensor all_rows(const at::Tensor& share, int64_t rows, Communicator& group, const char* what) {
  const ProfiledPart part("sy::exchange");
  const at::Tensor block = filled_up(share, rows_per_rank(rows, group));
  std::vector<int64_t> shape = block.sizes().vec();
  shape[0] *= group.size();
  const at::Tensor all = at::empty(shape, block.options());
  group.all_gather(block.const_data_ptr(), all.mutable_data_ptr(),
                   static_cast<int64_t>(block.nbytes()), what);
  return all.narrow(0, 0, rows);
}

at::Tensor share_of_sum(const at::Tensor& terms, Communicator& group, const char* what) {
  const ProfiledPart part("sy::exchange");
  const bool is_double = terms.scalar_type() == at::kDouble;
  const int64_t each = rows_per_rank(terms.size(0), group);
  const at::Tensor sent =
      filled_up(terms.to(is_double ? at::kDouble : at::kFloat), each * group.size());
  std::vector<int64_t> shape = sent.sizes().vec();
  shape[0] = each;
  const at::Tensor sum = at::empty(shape, sent.options());
  group
      .start_reduce_scatter(sent.const_data_ptr(), sum.mutable_data_ptr(), sum.numel(),
                            is_double ? DType::kFloat64 : DType::kFloat32, ReduceOp::kSum, what)
      ->wait();
  return sum.narrow(0, 0, share_of_rows(terms.size(0), group).size()).to(terms.scalar_type());
}

}  // namespace

Slice share_of_rows(int64_t count, const Communicator& group) {
  const int64_t each = rows_per_rank(count, group);
  return {std::min(count, group.rank() * each), std::min(count, (group.rank() + 1) * each)};
}

at::Tensor own_rows(const at::Tensor& rows, const Communicator& group) {
  const Slice share = share_of_rows(rows.size(0), group);
  return rows.narrow(0, share.begin, share.size());
}

at::Tensor gather_rows(const at::Tensor& share, int64_t rows, Communicator& group) {
  if (group.size() == 1) return share;
  const auto backward = [&group, own = share.size(0)](const at::Tensor& d_rows,
                                                      const std::vector<bool>&) {
    return std::vector{share_of_sum(d_rows, group, "gather backward").narrow(0, 0, own)};
  };
  return differentiable("gather_rows", {share}, all_rows(share.detach(), rows, group, "gather"),
                        backward);
}

at::Tensor gather_rows_for_all(const at::Tensor& share, int64_t rows, Communicator& group) {
  if (group.size() == 1) return share;
  const auto backward = [&group](const at::Tensor& d_rows, const std::vector<bool>&) {
    return std::vector{own_rows(d_rows, group)};
  };
  return differentiable("gather_rows_for_all", {share},
                        all_rows(share.detach(), rows, group, "gather for all"), backward);
}

at::Tensor sum_to_shares(const at::Tensor& terms, Communicator& group) {
  if (group.size() == 1) return terms;
  const auto backward = [&group, rows = terms.size(0)](const at::Tensor& d_share,
                                                       const std::vector<bool>&) {
    return std::vector{all_rows(d_share, rows, group, "sum backward")};
  };
  return differentiable("sum_to_shares", {terms}, share_of_sum(terms.detach(), group, "sum"),
                        backward);
}

}  // namespace switchyard::parallel
