#pragma once
// The head of a model of text: from the rows of its last layer to logits, and to a loss on them.

#include <cstdint>
#include <memory>
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

// The cross-entropy of targets [T] int64 on logits as a head computes them: of the whole
// vocabulary, or of what this rank holds of it.
std::unique_ptr<CrossEntropyLoss> cross_entropy(const at::Tensor& targets_T, double scale,
                                                double z_coefficient, const Rows& rows);

// The vocabulary is dealt over the tensor ranks, as the rows are between layers.
class Head {
 public:
  // weight [V, D] is the matrix of the logits; a model without a final norm has no `norm`.
  Head(const config::Model& model, const std::optional<Norm>& norm, Parameter& weight,
       const HeadDropout& dropout = {});

  // A head with the same matrix behind another norm.
  Head with_norm(const Norm& norm) const;

  // Rows of the last layer [T, D] -> what the matrix is multiplied with, [T, D]: after the final
  // norm, dropout and factors. Works on any of the rows.
  at::Tensor hidden(const at::Tensor& x_TD, const StepContext& context) const;
  // Rows of the last layer [T, D] that all ranks of context.rows have -> [T, V] float32 (float64).
  // Outside autograd; **collective** over these ranks.
  at::Tensor logits(const at::Tensor& x_TD, const StepContext& context) const;
  // What vocabulary_loss() gives for this rank's share of the rows of the last layer [T, D]. `loss`
  // must be for this rank's slice of the vocabulary, as cross_entropy() makes it. **Collective**
  // over the ranks of context.rows.
  at::Tensor loss(const at::Tensor& x_TD, const StepContext& context, LogitsLoss& loss) const;

  Parameter& weight() const { return *weight_; }

 private:
  std::optional<Norm> norm_;
  HeadDropout dropout_;
  double divisor_, scale_;
  Parameter* weight_;
};

}  // namespace switchyard::models
