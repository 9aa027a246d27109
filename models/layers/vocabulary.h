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
  // Registers <root>.embedding [V, D].
  TokenEmbedding(const Scope& root, const config::Model& model);

  // Tokens [B, S] int64 -> rows [B*S, D]: times model.embedding_scale, and in training with
  // model.dropout, whose draws `stream` tells from the others of the model.
  at::Tensor forward(const at::Tensor& tokens_BS, const StepContext& context,
                     uint32_t stream) const;

  Parameter& weight() const { return weight_; }

 private:
  double scale_, dropout_;
  Parameter& weight_;
};

// The matrix of the logits, [V, D]: with model.tie_embeddings the embedding's, else it registers
// <root>.output.
Parameter& output_matrix(const Scope& root, const config::Model& model,
                         const TokenEmbedding& embedding);

}  // namespace switchyard::models
