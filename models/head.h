#pragma once
// The head of a model of text: from the rows of its last layer to logits, and to a loss on them.

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "core/tensor/vocabulary_loss.h"
#include "models/layers/norm.h"
#include "models/pass/context.h"

namespace switchyard::models {

// Dropout after the final norm; `stream` tells its draws from the others of the model.
struct HeadDropout {
  double rate = 0;
  uint32_t stream = 0;
};

class Head {
 public:
  // weight [V, D] is the matrix of the logits; a model without a final norm has no `norm`.
  Head(const config::Model& model, const std::optional<Norm>& norm, Parameter& weight,
       const HeadDropout& dropout = {});

  // A head with the same matrix behind another norm.
  Head with_norm(const Norm& norm) const;

  // Rows of the last layer [T, D] -> what the matrix is multiplied with, [T, D].
  at::Tensor hidden(const at::Tensor& x_TD, const StepContext& context) const;
  // Rows of the last layer [T, D] -> [T, V] float32 (float64). Outside autograd.
  at::Tensor logits(const at::Tensor& x_TD, const StepContext& context) const;
  // What vocabulary_loss() gives for the rows of the last layer [T, D].
  at::Tensor loss(const at::Tensor& x_TD, const StepContext& context, LogitsLoss& loss) const;

  Parameter& weight() const { return *weight_; }

 private:
  std::optional<Norm> norm_;
  HeadDropout dropout_;
  double divisor_, scale_;
  Parameter* weight_;
};

}  // namespace switchyard::models
