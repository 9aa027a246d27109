#pragma once
// Losses on the logits of a vocabulary, hidden weight^T, of which there are too many to exist all
// at once: a loss sees them a block of rows at a time.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/tensor/device_ops.h"
#include "core/tensor/parameter.h"

namespace switchyard {

// A loss that is a sum over rows of logits. vocabulary_loss() calls begin(), add() for each block,
// then value().
class LogitsLoss {
 public:
  virtual ~LogitsLoss() = default;

  // Announces so many rows. Their logits, and the loss, have the type and the device of `options`:
  // float32, or float64 for float64 operands.
  virtual void begin(int64_t rows, const at::TensorOptions& options) = 0;
  // Takes in the logits [R, V] of the rows first .. first + R - 1. with_gradient: replaces them by
  // the gradient of value() with respect to them.
  virtual void add(const at::Tensor& logits_RV, int64_t first, bool with_gradient) = 0;
  // The loss of all rows, a scalar.
  virtual at::Tensor value() const = 0;
};

// `scale` * sum over targets >= 0 of -log softmax(logits)[target].
//
// The output z-loss, `z_coefficient` * z with z = `scale` * sum over targets >= 0 of
// logsumexp(logits)^2 (T5, PaLM), joins the gradient but not the value.
class CrossEntropyLoss : public LogitsLoss {
 public:
  // targets [T] int64, -1: no loss. On the CPU add() throws CheckError for a target outside the
  // vocabulary.
  CrossEntropyLoss(const at::Tensor& targets_T, double scale, double z_coefficient = 0);

  void begin(int64_t rows, const at::TensorOptions& options) override;
  void add(const at::Tensor& logits_RV, int64_t first, bool with_gradient) override;
  at::Tensor value() const override;

  // Each row's -log softmax(logits)[target], [T], without the scale; 0 where there is no target.
  const at::Tensor& losses() const { return nll_T_; }
  // The z-loss without its coefficient, a float64 scalar; undefined where that is 0.
  at::Tensor z() const;

 protected:
  // What add() reads and fills of the rows first .. first + rows - 1.
  DeviceOps::TargetRows rows_of(int64_t first, int64_t rows) const;

 private:
  at::Tensor targets_T_;
  double scale_, z_coefficient_;
  at::Tensor nll_T_;
  at::Tensor log_sum_T_;  // undefined without the z-loss
};

// loss.value() of the logits hidden weight^T, differentiable in both. hidden [T, D]; weight [V, D].
// When gradients are on, they are computed here, so the result must enter the total loss with
// coefficient 1: backward throws for another, on the CPU at once.
at::Tensor vocabulary_loss(const at::Tensor& hidden, Parameter& weight, LogitsLoss& loss);

// The logits that the loss is of, [T, V] float32 (float64): hidden weight^T of operands in the
// compute type, summed and left in float32. Outside autograd.
at::Tensor vocabulary_logits(const at::Tensor& hidden, const Parameter& weight);

}  // namespace switchyard
