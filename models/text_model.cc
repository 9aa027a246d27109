#include "models/text_model.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::models {

TextModel::TextModel(const Scope& root, const config::Model& model)
    : config_(model), embedding_(root, model) {}

void TextModel::end_with(const Scope& root, const std::optional<Norm>& final_norm,
                         const HeadDropout& dropout) {
  head_.emplace(config_, final_norm, output_matrix(root, config_, embedding_), dropout);
}

at::Tensor TextModel::run(const Slice& layers, const at::Tensor& x_TD, const Pass& pass) const {
  return run_layers(std::span(layers_).subspan(layers.begin, layers.size()), x_TD, pass);
}

at::Tensor TextModel::hidden_states(const TokenBatch& batch, const StepContext& context,
                                    int64_t layers) const {
  const Pass pass = begin(batch, context, /*recompute=*/false);
  return run({0, layers}, embed(batch.tokens_BS, pass), pass);
}

TextState TextModel::encode(const at::Tensor&, const StepContext&) const {
  SY_CHECK(false, "only an encoder-decoder encodes a prompt");
}

at::Tensor TextModel::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                                  TextState& state) const {
  const Pass pass = go_on(tokens_BS, context, state);
  at::Tensor x_TD = embed(tokens_BS, pass);
  state.layers.resize(layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) {
    RoutingDecision decision;
    x_TD = layers_[i]->forward(x_TD, pass, decision, &state.layers[i]);
  }
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  state.seen += length;
  return head_->logits(x_TD.view({sequences, length, -1}).select(1, length - 1), pass.context);
}

}  // namespace switchyard::models
