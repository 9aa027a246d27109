#pragma once
// The two matrices of a model of text that have a row for each token of the vocabulary.

#include "core/config/layers.h"
#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::models {

// Registers <root>.embedding [V, D].
inline Parameter& register_embedding(const Scope& root, const config::Model& model) {
  return root.as(Role::kEmbedding)
      .table("embedding", {model.vocab_size(), model.d_model()},
             {Init::kNormal, config::declared_init_std(model)});
}

// Registers <root>.output [V, D]. Null: the model multiplies with its embedding instead.
inline Parameter* register_output(const Scope& root, const config::Model& model) {
  if (model.tie_embeddings()) return nullptr;
  return &root.as(Role::kOutput)
              .matrix("output", {model.vocab_size(), model.d_model()},
                      {Init::kNormal, config::declared_init_std(model)});
}

}  // namespace switchyard::models
