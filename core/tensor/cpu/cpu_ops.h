#pragma once
// The hot operations on CPU tensors: loops over rows in several threads, with the kernels of
// core/tensor/cpu/kernels.h inside. Results do not depend on the number of threads.

#include "core/tensor/device_ops.h"

namespace switchyard {

class CpuOps final : public DeviceOps {
 public:
  Normed rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps,
                  bool cast_first) const override;
  NormGradients rms_norm_backward(const at::Tensor& dy_TD, const NormInput& input,
                                  bool needs_weight) const override;
  at::Tensor rotate(const at::Tensor& x_BSHd, const at::Tensor& cos_Sd,
                    const at::Tensor& sin_Sd) const override;
  void activate(Activation kind, const at::Tensor& h, const at::Tensor& out) const override;
  void activate_backward(Activation kind, const at::Tensor& h, const at::Tensor& d_out,
                         const at::Tensor& dh) const override;
  void add_rows(const at::Tensor& rows, const at::Tensor& index,
                const at::Tensor& sum) const override;
  at::Tensor gather_rows(const at::Tensor& source_RD, const at::Tensor& index) const override;
  at::Tensor sum_rows(const at::Tensor& source_RD, const at::Tensor& position_TK,
                      const at::Tensor& weight_TK) const override;
  SumGradients sum_rows_backward(const at::Tensor& dy_TD, const WeightedRows& rows) const override;
  void cross_entropy(const at::Tensor& logits_RV, const TargetRows& rows,
                     bool with_gradient) const override;
};

}  // namespace switchyard
