#pragma once
// What the hot operations compute on a device: forward and backward over tensors, outside autograd.
// The functions of the class itself are plain ATen and serve a device of any kind; a device
// overrides those that it has something faster for. Statistics and sums are in float32 (float64 for
// float64 tensors), which is called exact below. All are deterministic and legal for zero rows.

#include <ATen/core/Tensor.h>

#include "core/tensor/activation.h"

namespace switchyard {

inline at::ScalarType exact_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

class DeviceOps {
 public:
  virtual ~DeviceOps() = default;

  // y = x r weight with r = 1 / sqrt(mean(x^2) + eps) for each row. x [T, D], contiguous; weight
  // [D] of x's type. `cast_first`: x r is rounded to x's type before it meets the weight.
  struct Normed {
    at::Tensor y_TD, r_T;  // r is exact
  };
  virtual Normed rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps,
                          bool cast_first) const;
  // From the gradient of y, contiguous.
  struct NormInput {
    at::Tensor x_TD, weight_D, r_T;
  };
  struct NormGradients {
    at::Tensor x_TD, weight_D;  // the weight's is exact, and undefined where it is not needed
  };
  virtual NormGradients rms_norm_backward(const at::Tensor& dy_TD, const NormInput& input,
                                          bool needs_weight) const;

  // Turns the pairs (x[i], x[i + d/2]) by the angles whose cosines and sines [S, d/2], exact, are
  // given. x [B, S, H, d] of any strides -> the same, contiguous. With -sin it turns back.
  virtual at::Tensor rotate(const at::Tensor& x_BSHd, const at::Tensor& cos_Sd,
                            const at::Tensor& sin_Sd) const;

  // out [n, F] = act(h), h [n, F]; where the activation is gated, h [n, 2F] is the gate beside what
  // it is multiplied with.
  virtual void activate(Activation kind, const at::Tensor& h, const at::Tensor& out) const;
  // dh [as h] from the gradient d_out [n, F], which is replaced by the activation itself.
  virtual void activate_backward(Activation kind, const at::Tensor& h, const at::Tensor& d_out,
                                 const at::Tensor& dh) const;

  // sum[index[i]] += rows[i] in the order of i. rows [n, D]; index [n] int64, contiguous; sum is
  // exact.
  virtual void add_rows(const at::Tensor& rows, const at::Tensor& index,
                        const at::Tensor& sum) const;

  // out[i] = source[index[i]], zeros where the index is negative. source [R, D], contiguous; index
  // [n] int64 -> [n, D].
  virtual at::Tensor gather_rows(const at::Tensor& source_RD, const at::Tensor& index) const;

  // out[i] = sum over j of source[position[i, j]], times weight[i, j] if that is defined, in the
  // order of j, without negative positions. position [T, K] int64; weight [T, K], exact -> [T, D]
  // in source's type.
  virtual at::Tensor sum_rows(const at::Tensor& source_RD, const at::Tensor& position_TK,
                              const at::Tensor& weight_TK) const;
  struct WeightedRows {
    at::Tensor source_RD, position_TK, weight_TK;
  };
  // Both gradients of the weighted sum, for its output's gradient [T, D]. Each row of the source
  // has at most one position; the gradient of a row without one is not specified.
  struct SumGradients {
    at::Tensor source_RD, weight_TK;  // of the types of source and weight
  };
  virtual SumGradients sum_rows_backward(const at::Tensor& dy_TD, const WeightedRows& rows) const;

  // For each row of logits [R, V], exact and contiguous, with a target: fills nll, the row's
  // -log softmax(logits)[target], and log_sum, its logsumexp(logits), unless that is undefined.
  // Rows without a target get 0. with_gradient: replaces the logits by the gradient of
  //   scale * sum over rows of (nll + z_coefficient * log_sum^2).
  // A target that is not below V is an error: CheckError on the CPU.
  struct TargetRows {
    at::Tensor target_R;  // int64, contiguous; negative: none
    double scale, z_coefficient;
    at::Tensor nll_R, log_sum_R;  // as the logits, contiguous
  };
  virtual void cross_entropy(const at::Tensor& logits_RV, const TargetRows& rows,
                             bool with_gradient) const;
};

// The operations of the device that x lies on.
const DeviceOps& device_ops(const at::Tensor& x);
// Those of the CPU (core/tensor/cpu/).
const DeviceOps& cpu_ops();

// While it lives, the calling thread computes the plain way on every device: the oracle of a
// device's own operations, and the way to find out whether one of them is at fault.
class PlainOpsGuard {
 public:
  PlainOpsGuard();
  ~PlainOpsGuard();
  PlainOpsGuard(const PlainOpsGuard&) = delete;
  PlainOpsGuard& operator=(const PlainOpsGuard&) = delete;

 private:
  bool before_;
};

}  // namespace switchyard
