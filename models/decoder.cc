#include "models/decoder.h"

#include <memory>

#include <ATen/record_function.h>

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/recompute.h"
#include "models/moe/balance.h"

namespace switchyard::models {
namespace {

bool shares_relative_bias(const config::Attention& attention) {
  return attention.position() == config::RELATIVE_BIAS && attention.relative_bias().shared();
}

std::vector<DecoderLayer> make_layers(const Scope& scope, const config::Model& model,
                                      const parallel::Mesh& mesh, Parameter* relative_bias) {
  std::vector<DecoderLayer> layers;
  layers.reserve(model.num_layers());
  int64_t moe_index = 0;
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    layers.emplace_back(scope / layer, model, mesh, LayerPlace{layer, moe_index, relative_bias});
    moe_index += config::is_moe_layer(model, layer);
  }
  return layers;
}

template <typename F>
at::Tensor residual(const at::Tensor& x_TD, const SubLayerNorms& norms, F&& f) {
  const at::Tensor y_TD = f(norms.before.forward(x_TD));
  return x_TD + (norms.after ? norms.after->forward(y_TD) : y_TD);
}

}  // namespace

SubLayerNorms::SubLayerNorms(const Scope& scope, const std::string& name,
                             const config::Model& model)
    : before(scope, name + "_norm", norm_options(model), model.d_model()) {
  if (model.sandwich_norm())
    after.emplace(scope, name + "_out_norm", norm_options(model), model.d_model());
}

DecoderLayer::DecoderLayer(const Scope& scope, const config::Model& model,
                           const parallel::Mesh& mesh, const LayerPlace& place)
    : attention_norms_(scope, "attention", model), ffn_norms_(scope, "ffn", model) {
  if (model.attention().has_latent()) {
    latent_.emplace(scope / "attention", model);
  } else {
    attention_.emplace(scope / "attention", model, place.relative_bias);
  }
  if (config::is_moe_layer(model, static_cast<int>(place.layer))) {
    moe_.emplace(scope / "moe", model, mesh, static_cast<uint32_t>(place.layer), place.moe_index);
    stacking_ = model.moe().stacking();
  } else {
    dense_.emplace(scope / "ffn", model, model.ffn(), model.d_ff());
  }
  if (stacking_ == config::NO_STACKING) return;
  extra_norms_.emplace(scope, "extra_ffn", model);
  extra_.emplace(scope / "extra_ffn", model, model.ffn(), model.d_ff());
}

at::Tensor DecoderLayer::forward(const at::Tensor& x_TD, const AttentionInput& input,
                                 const StepContext& context, RoutingDecision& decision,
                                 KvCache* cache) const {
  at::Tensor h_TD = forward_attention(x_TD, input, cache);
  if (stacking_ == config::DENSE_BEFORE) h_TD = forward_extra(h_TD);
  h_TD = forward_ffn(h_TD, context, decision);
  return stacking_ == config::DENSE_AFTER ? forward_extra(h_TD) : h_TD;
}

at::Tensor DecoderLayer::forward_attention(const at::Tensor& x_TD, const AttentionInput& input,
                                           KvCache* cache) const {
  return residual(x_TD, attention_norms_, [&](const at::Tensor& normed_TD) {
    return latent_ ? latent_->forward(normed_TD, input, cache)
                   : attention_->forward(normed_TD, input, cache);
  });
}

at::Tensor DecoderLayer::forward_ffn(const at::Tensor& x_TD, const StepContext& context,
                                     RoutingDecision& decision) const {
  return residual(x_TD, ffn_norms_, [&](const at::Tensor& normed_TD) {
    return moe_ ? moe_->forward(normed_TD, context, decision) : dense_->forward(normed_TD);
  });
}

at::Tensor DecoderLayer::forward_extra(const at::Tensor& x_TD) const {
  return residual(x_TD, *extra_norms_,
                  [&](const at::Tensor& normed_TD) { return extra_->forward(normed_TD); });
}

Decoder::Decoder(ParameterTable& table, const config::Model& model, const parallel::Mesh& mesh)
    : model_(model),
      embedding_(Scope(table).parameter("embedding", {model.vocab_size(), model.d_model()},
                                        {Init::kNormal, model.init_std()})),
      relative_bias_(shares_relative_bias(model.attention())
                         ? &register_relative_bias(Scope(table), model)
                         : nullptr),
      layers_(make_layers(Scope(table) / "layers", model, mesh, relative_bias_)),
      final_norm_(Scope(table), "final_norm", norm_options(model), model.d_model()) {
  if (!model.tie_embeddings()) {
    output_ = &Scope(table).parameter("output", {model.vocab_size(), model.d_model()},
                                      {Init::kNormal, model.init_std()});
  }
}

at::Tensor Decoder::embed(const at::Tensor& tokens) const {
  const at::Tensor x_TD = embedding(tokens.flatten(), embedding_);
  return model_.embedding_scale() == 1 ? x_TD : x_TD * model_.embedding_scale();
}

at::Tensor Decoder::hidden(const at::Tensor& x_TD) const {
  const at::Tensor y_TD = final_norm_.forward(x_TD);
  // The logits are linear in it.
  return model_.output_scale() == 1 ? y_TD : y_TD * model_.output_scale();
}

AttentionInput Decoder::input_at(int64_t sequences, int64_t seen, int64_t length) const {
  const config::Attention& attention = model_.attention();
  AttentionInput input{sequences, length, {}, {}, {}};
  if (attention.position() == config::ROPE) {
    input.rotary = rotary_tables(attention, seen, length);
  } else {
    input.bucket_SS =
        relative_buckets(attention.relative_bias(), seen, length, seen + length, false);
  }
  return input;
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
  const at::Tensor x_TD = embed(batch.tokens_BS);
  AttentionInput input = input_at(batch.tokens_BS.size(0), 0, batch.tokens_BS.size(1));
  input.mask_B1SS =
      document_mask(batch.documents_BS, model_.attention().sliding_window(), x_TD.scalar_type());
  StepContext with_ids = context;
  with_ids.token_ids_T = batch.tokens_BS.flatten();
  if (context.training && model_.moe().layer_aggregation() == config::POOLED_LAYERS) {
    with_ids.pool = std::make_shared<PooledBalance>(config::num_moe_layers(model_));
  }
  const at::Tensor hidden_TD = hidden(run_layers(x_TD, input, with_ids, recompute));
  RECORD_USER_SCOPE("sy::loss");
  return vocabulary_loss(hidden_TD, output_weight(), batch.targets_BS.flatten(), scale, nll);
}

at::Tensor Decoder::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                                std::vector<KvCache>& caches) const {
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  const int64_t seen = caches.empty() ? 0 : caches[0].length();
  caches.resize(layers_.size());
  at::Tensor x_TD = embed(tokens_BS);
  AttentionInput input = input_at(sequences, seen, length);
  input.mask_B1SS =
      continuation_mask(seen, length, model_.attention().sliding_window(), x_TD.scalar_type());
  StepContext with_ids = context;
  with_ids.token_ids_T = tokens_BS.flatten();
  for (size_t i = 0; i < layers_.size(); ++i) {
    RoutingDecision decision;
    x_TD = layers_[i].forward(x_TD, input, with_ids, decision, &caches[i]);
  }
  const at::Tensor last = x_TD.view({sequences, length, -1}).select(1, length - 1);
  return linear(hidden(last), output_weight()).to(at::kFloat);
}

}  // namespace switchyard::models
