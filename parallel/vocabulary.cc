#include "parallel/vocabulary.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::parallel {
namespace {

void reduce(const at::Tensor& values, ReduceOp op, Communicator& group, const char* what) {
  const DType dtype = values.scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
  group.all_reduce(values.mutable_data_ptr(), values.numel(), dtype, op, what);
}

}  // namespace

DealtCrossEntropyLoss::DealtCrossEntropyLoss(const at::Tensor& targets_T, double scale,
                                             double z_coefficient, Communicator& group)
    : CrossEntropyLoss(targets_T, scale, z_coefficient), group_(&group) {}

DealtCrossEntropyLoss::Rows DealtCrossEntropyLoss::over_all_ranks(
    const at::Tensor& logits_RV, const at::Tensor& own_target_R1,
    const at::Tensor& is_own_R) const {
  const at::Tensor max_R = logits_RV.amax(1);
  reduce(max_R, ReduceOp::kMax, *group_, "largest logits");
  const at::Tensor sum_R = (logits_RV - max_R.unsqueeze(1)).exp_().sum(1);
  const at::Tensor own_R = logits_RV.gather(1, own_target_R1).squeeze(1).mul(is_own_R);
  const at::Tensor sums_2R = at::stack({sum_R, own_R});
  reduce(sums_2R, ReduceOp::kSum, *group_, "sums of logits");
  return {max_R + sums_2R[0].log(), sums_2R[1]};
}

void DealtCrossEntropyLoss::add(const at::Tensor& logits_RV, int64_t first, bool with_gradient) {
  const DeviceOps::TargetRows rows = rows_of(first, logits_RV.size(0));
  const int64_t held = logits_RV.size(1), begin = group_->rank() * held;
  SY_CHECK(!rows.target_R.is_cpu() || rows.target_R.lt(held * group_->size()).all().item<bool>(),
           "cross-entropy: a target is not below {}", held * group_->size());
  const at::Tensor has_none_R = rows.target_R.lt(0);
  const at::Tensor target_R = rows.target_R - begin;
  const at::Tensor is_own_R =
      target_R.ge(0).logical_and(target_R.lt(held)).to(logits_RV.scalar_type());
  const at::Tensor target_R1 = target_R.clamp(0, held - 1).unsqueeze(1);
  const auto [log_sum_R, of_target_R] = over_all_ranks(logits_RV, target_R1, is_own_R);
  rows.nll_R.copy_((log_sum_R - of_target_R).masked_fill(has_none_R, 0));
  if (rows.log_sum_R.defined()) rows.log_sum_R.copy_(log_sum_R.masked_fill(has_none_R, 0));
  if (!with_gradient) return;
  const at::Tensor slope_R = at::full_like(log_sum_R, rows.scale).masked_fill_(has_none_R, 0);
  const at::Tensor of_softmax_R = slope_R * (1 + 2 * rows.z_coefficient * log_sum_R);
  logits_RV.sub_(log_sum_R.unsqueeze(1)).exp_().mul_(of_softmax_R.unsqueeze(1));
  logits_RV.scatter_add_(1, target_R1, (slope_R * is_own_R).neg_().unsqueeze(1));
}

}  // namespace switchyard::parallel
