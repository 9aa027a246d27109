#include "models/layers/vocabulary.h"

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "models/layers/dropout.h"

namespace switchyard::models {

TokenEmbedding::TokenEmbedding(const Scope& root, const config::Model& model)
    : scale_(model.has_embedding_scale() ? model.embedding_scale() : 1),
      dropout_(model.dropout()),
      weight_(root.as(Role::kEmbedding)
                  .table("embedding", {model.vocab_size(), model.d_model()},
                         {Init::kNormal, config::declared_init_std(model)})) {}

at::Tensor TokenEmbedding::forward(const at::Tensor& tokens_BS, const StepContext& context,
                                   uint32_t stream) const {
  const at::Tensor x_TD = embedding(tokens_BS.flatten(), weight_);
  return dropout(scale_ == 1 ? x_TD : x_TD * scale_, dropout_, context, stream);
}

Parameter& output_matrix(const Scope& root, const config::Model& model,
                         const TokenEmbedding& embedding) {
  if (model.tie_embeddings()) return embedding.weight();
  return root.as(Role::kOutput)
      .matrix("output", {model.vocab_size(), model.d_model()},
              {Init::kNormal, config::declared_init_std(model)});
}

}  // namespace switchyard::models
