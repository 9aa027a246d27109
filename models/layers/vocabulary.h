#pragma once
// The two matrices of a model of text that have a row for each token of the vocabulary.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/pass/context.h"

namespace switchyard::models {

class TokenEmbedding {
 public:
  // Registers <root>.embedding [V, D], whose rows are dealt over the tensor ranks.
  TokenEmbedding(const Scope& root, const config::Model& model);

  // This rank's share of the rows [T, D] of the context's tokens: times model.embedding_scale, and
  // in training with model.dropout, whose draws `stream` tells from the others of the model.
  // **Collective** over the ranks of context.rows.
  at::Tensor forward(const StepContext& context, uint32_t stream) const;

  Parameter& weight() const { return weight_; }

 private:
  at::Tensor look_up(const at::Tensor& token_T, const Rows& rows) const;

  double scale_, dropout_;
  Parameter& weight_;
};

// Registers <root>.output [V, D], the matrix of the logits where it is not the embedding's.
Parameter& register_output(const Scope& root, const config::Model& model);

}  // namespace switchyard::models
