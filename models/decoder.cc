#include "models/decoder.h"

#include <limits>
#include <memory>

#include <ATen/record_function.h>
#include "core/tensor/aten.h"

#include "core/config/layers.h"
#include "core/tensor/ops.h"
#include "core/tensor/recompute.h"
#include "models/moe/balance.h"

namespace switchyard::models {
namespace {

std::vector<DecoderLayer> make_layers(const Scope& scope, const config::Model& model,
                                      const parallel::Mesh& mesh) {
  std::vector<DecoderLayer> layers;
  layers.reserve(model.num_layers());
  int64_t moe_index = 0;
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    layers.emplace_back(scope / layer, model, mesh, layer, moe_index);
    moe_index += config::is_moe_layer(model, layer);
  }
  return layers;
}

}  // namespace

DecoderLayer::DecoderLayer(const Scope& scope, const config::Model& model,
                           const parallel::Mesh& mesh, int64_t layer, int64_t moe_index)
    : norm_eps_(model.norm_eps()),
      attention_norm_(
          scope.parameter("attention_norm", {model.d_model()}, {Init::kConstant, 1}, false)),
      attention_(scope / "attention", model),
      ffn_norm_(scope.parameter("ffn_norm", {model.d_model()}, {Init::kConstant, 1}, false)) {
  if (config::is_moe_layer(model, layer)) {
    moe_.emplace(scope / "moe", model, mesh, static_cast<uint32_t>(layer), moe_index);
    stacking_ = model.moe().stacking();
  } else {
    dense_.emplace(scope / "ffn", model, model.ffn(), model.d_ff());
  }
  if (stacking_ == config::NO_STACKING) return;
  extra_norm_ = &scope.parameter("extra_ffn_norm", {model.d_model()}, {Init::kConstant, 1}, false);
  extra_.emplace(scope / "extra_ffn", model, model.ffn(), model.d_ff());
}

at::Tensor DecoderLayer::forward(const at::Tensor& x_TD, const AttentionInput& input,
                                 const StepContext& context, RoutingDecision& decision,
                                 KvCache* cache) const {
  at::Tensor h_TD =
      x_TD + attention_.forward(rms_norm(x_TD, attention_norm_, norm_eps_), input, cache);
  if (stacking_ == config::DENSE_BEFORE) h_TD = forward_extra(h_TD);
  h_TD = forward_ffn(h_TD, context, decision);
  return stacking_ == config::DENSE_AFTER ? forward_extra(h_TD) : h_TD;
}

at::Tensor DecoderLayer::forward_ffn(const at::Tensor& x_TD, const StepContext& context,
                                     RoutingDecision& decision) const {
  const at::Tensor normed_TD = rms_norm(x_TD, ffn_norm_, norm_eps_);
  return x_TD + (moe_ ? moe_->forward(normed_TD, context, decision) : dense_->forward(normed_TD));
}

at::Tensor DecoderLayer::forward_extra(const at::Tensor& x_TD) const {
  return x_TD + extra_->forward(rms_norm(x_TD, *extra_norm_, norm_eps_));
}

Decoder::Decoder(ParameterTable& table, const config::Model& model, const parallel::Mesh& mesh)
    : model_(model),
      embedding_(Scope(table).parameter("embedding", {model.vocab_size(), model.d_model()},
                                        {Init::kNormal, model.init_std()})),
      layers_(make_layers(Scope(table) / "layers", model, mesh)),
      final_norm_(
          Scope(table).parameter("final_norm", {model.d_model()}, {Init::kConstant, 1}, false)) {
  if (!model.tie_embeddings()) {
    output_ = &Scope(table).parameter("output", {model.vocab_size(), model.d_model()},
                                      {Init::kNormal, model.init_std()});
  }
}

at::Tensor Decoder::run_layers(at::Tensor x_TD, const AttentionInput& input,
                               const StepContext& context, bool recompute) const {
  for (const DecoderLayer& layer : layers_) {
    const auto decision = std::make_shared<RoutingDecision>();  // lives until the layer's backward
    if (recompute) {
      x_TD = switchyard::recompute(
          [&layer, input, context, decision](const at::Tensor& x, bool) {
            return layer.forward(x, input, context, *decision, nullptr);
          },
          x_TD);
    } else {
      x_TD = layer.forward(x_TD, input, context, *decision, nullptr);
    }
  }
  return x_TD;
}

at::Tensor Decoder::loss(const TokenBatch& batch, const StepContext& context, double scale,
                         const at::Tensor& nll, bool recompute) const {
  const at::Tensor x_TD = embedding(batch.tokens_BS.flatten(), embedding_);
  AttentionInput input{batch.tokens_BS.size(0), batch.tokens_BS.size(1), {}, {}, {}};
  input.mask_B1SS = document_mask(batch.documents_BS, x_TD.scalar_type());
  rotary_tables(model_.attention(), 0, input.length, input);
  StepContext with_ids = context;
  with_ids.token_ids_T = batch.tokens_BS.flatten();
  if (context.training && model_.moe().layer_aggregation() == config::POOLED_LAYERS) {
    with_ids.pool = std::make_shared<PooledBalance>(config::num_moe_layers(model_));
  }
  const at::Tensor hidden_TD =
      rms_norm(run_layers(x_TD, input, with_ids, recompute), final_norm_, model_.norm_eps());
  RECORD_USER_SCOPE("sy::loss");
  return vocabulary_loss(hidden_TD, output_weight(), batch.targets_BS.flatten(), scale, nll);
}

at::Tensor Decoder::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                                std::vector<KvCache>& caches) const {
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  const int64_t seen = caches.empty() ? 0 : caches[0].length();
  caches.resize(layers_.size());
  at::Tensor x_TD = embedding(tokens_BS.flatten(), embedding_);
  AttentionInput input{sequences, length, {}, {}, {}};
  if (length > 1) {  // positions of this piece see all earlier pieces and, within the piece, no
                     // later position
    const at::Tensor hidden = at::ones({length, seen + length}, at::kBool).tril(seen).logical_not();
    input.mask_B1SS = at::zeros({1, 1, length, seen + length}, x_TD.scalar_type())
                          .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  }
  rotary_tables(model_.attention(), seen, length, input);
  StepContext with_ids = context;
  with_ids.token_ids_T = tokens_BS.flatten();
  for (size_t i = 0; i < layers_.size(); ++i) {
    RoutingDecision decision;
    x_TD = layers_[i].forward(x_TD, input, with_ids, decision, &caches[i]);
  }
  const at::Tensor last = x_TD.view({sequences, length, -1}).select(1, length - 1);
  return linear(rms_norm(last, final_norm_, model_.norm_eps()), output_weight()).to(at::kFloat);
}

}  // namespace switchyard::models
