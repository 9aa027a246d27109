#include "models/mtp.h"

#include "core/tensor/aten.h"
#include "models/layers/init.h"

namespace switchyard::models {

NextTokens next_tokens(const TokenBatch& batch) {
  const int64_t sequences = batch.tokens_BS.size(0), length = batch.tokens_BS.size(1);
  const at::Tensor last = batch.targets_BS.narrow(1, length - 1, 1);
  const at::Tensor none = at::full({sequences, 1}, -1, batch.targets_BS.options());
  // An end-of-document token counts to what follows it, so that the token before it, which predicts
  // it, is the last that may not look further.
  const at::Tensor same_document =
      batch.documents_BS.narrow(1, 1, length - 1).eq(batch.documents_BS.narrow(1, 0, length - 1));
  const at::Tensor after_next = batch.targets_BS.narrow(1, 1, length - 1);
  return {at::concat({batch.tokens_BS.narrow(1, 1, length - 1), last.clamp_min(0)}, 1),
          at::concat({after_next.masked_fill(same_document.logical_not(), -1), none}, 1)};
}

MultiTokenPrediction::MultiTokenPrediction(const Scope& scope, const config::Model& model,
                                           const parallel::Mesh& mesh, Parameter* relative_bias)
    : hidden_norm_(scope, "hidden_norm", model),
      embedding_norm_(scope, "embedding_norm", model),
      projection_(scope, "projection", model.d_model(), int64_t{2} * model.d_model(),
                  normal_init(model)),
      number_(model.num_layers()),
      layer_(scope / "layer", model, mesh, model.num_layers(), relative_bias),
      final_norm_(scope, "final_norm", model) {}

at::Tensor MultiTokenPrediction::forward(const at::Tensor& hidden_TD, const at::Tensor& next_TD,
                                         const Pass& pass) const {
  const at::Tensor joined_TD =
      at::concat({hidden_norm_.forward(hidden_TD), embedding_norm_.forward(next_TD)}, /*dim=*/1);
  return run_layer(layer_, number_, projection_.forward(joined_TD), pass);
}

}  // namespace switchyard::models
