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
                  .cut(Axis::kTensor, 0)
                  .table("embedding", {model.vocab_size(), model.d_model()}, normal_init(model))) {}

// Each rank looks up the tokens whose rows of the table it holds.
at::Tensor TokenEmbedding::look_up(const at::Tensor& token_T, const Rows& rows) const {
  if (!rows.ranks()) return embedding(token_T, weight_);
  const int64_t held = weight_.value.size(0);
  const at::Tensor place_T = token_T - held * rows.place().index;
  const at::Tensor is_held_T = place_T.ge(0).logical_and(place_T.lt(held));
  const at::Tensor x_TD = embedding(place_T.clamp(0, held - 1), weight_);
  return rows.sum(x_TD * is_held_T.unsqueeze(1).to(x_TD.scalar_type()));
}

at::Tensor TokenEmbedding::forward(const StepContext& context, uint32_t stream) const {
  const at::Tensor x_TD = look_up(context.token_ids_T, context.rows);
  return dropout(scale_ == 1 ? x_TD : x_TD * scale_, dropout_, context, stream);
}

Parameter& register_output(const Scope& root, const config::Model& model) {
  return root.as(Role::kOutput)
      .cut(Axis::kTensor, 0)
      .matrix("output", {model.vocab_size(), model.d_model()}, normal_init(model));
}

}  // namespace switchyard::models
