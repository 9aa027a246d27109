#include "models/text_model.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::models {

TextModel::TextModel(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
                     const Slice& held)
    : config_(model), held_(held), parameters_(&root.parameters()), tensor_(&mesh.tensor()) {
  const bool head_embeds = model.tie_embeddings() || model.has_mtp();
  if (held.begin == 0 || (has_head() && head_embeds)) embedding_.emplace(root, model);
}

void TextModel::end_with(const Scope& root, const std::optional<Norm>& final_norm,
                         const HeadDropout& dropout) {
  Parameter& weight =
      config_.tie_embeddings() ? embedding_->weight() : register_output(root, config_);
  head_.emplace(config_, final_norm, weight, dropout);
}

Pass TextModel::pass_over(const at::Tensor& tokens_BS, const StepContext& context,
                          int64_t seen) const {
  Pass pass;
  pass.context = with_token_ids(context, tokens_BS);
  pass.context.rows = Rows(*tensor_, tokens_BS.numel());
  pass.attention.sequences = tokens_BS.size(0);
  pass.attention.length = tokens_BS.size(1);
  pass.seen = seen;
  return pass;
}

at::TensorOptions TextModel::compute_options() const {
  return parameters_->parameters().front().value.options();
}

at::Tensor TextModel::embed(const Pass& pass) const {
  return embedding_->forward(pass.context, /*stream=*/0);
}

at::Tensor TextModel::run(const Slice& layers, at::Tensor x_TD, const Pass& pass) const {
  for (int64_t i = layers.begin - held_.begin; i < layers.end - held_.begin; ++i)
    x_TD = run_layer(*layers_[i], x_TD, pass, pass.states.empty() ? nullptr : &pass.states[i]);
  return x_TD;
}

at::Tensor TextModel::advance(const at::Tensor& x_TD, const Pass& pass) const {
  return run(held_, held_.begin == 0 ? embed(pass) : x_TD, pass);
}

TextState TextModel::encode(const at::Tensor&, const StepContext&) const {
  SY_CHECK(false, "only an encoder-decoder encodes a prompt");
}

at::Tensor TextModel::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                                  TextState& state) const {
  Pass pass = go_on(tokens_BS, context, state);
  state.layers.resize(layers_.size());
  pass.states = state.layers;
  const at::Tensor x_TD = pass.context.rows.gather(advance({}, pass));
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  state.seen += length;
  return head_->logits(x_TD.view({sequences, length, -1}).select(1, length - 1), pass.context);
}

}  // namespace switchyard::models
