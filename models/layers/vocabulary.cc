#include "models/layers/vocabulary.h"

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "models/layers/dropout.h"
#include "models/layers/init.h"

namespace switchyard::models {

TokenEmbedding::TokenEmbedding(const Scope& root, const config::Model& model)
    : scale_(model.has_embedding_scale() ? model.embedding_scale() : 1),
      dropout_(model.dropout()),
      weight_(root.as(Role::kEmbedding)
                  .table("embedding", {model.vocab_size(), model.d_model()}, normal_init(model))) {}

at::Tensor TokenEmbedding::forward(const StepContext& context, uint32_t stream) const {
  const at::Tensor x_TD = embedding(context.token_ids_T, weight_);
  return dropout(scale_ == 1 ? x_TD : x_TD * scale_, dropout_, context, stream);
}

Parameter& register_output(const Scope& root, const config::Model& model) {
  return root.as(Role::kOutput)
      .matrix("output", {model.vocab_size(), model.d_model()}, normal_init(model));
}

}  // namespace switchyard::models
