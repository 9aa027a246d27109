#include "models/decoder.h"

#include <limits>
#include <memory>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"
#include "models/initializers.h"
#include "models/layers/output_z_loss.h"
#include "models/layers/vocabulary.h"
#include "models/moe/losses/balance.h"
#include "models/pass/coefficients.h"

namespace switchyard::models {
namespace {

bool shares_relative_bias(const config::Attention& attention) {
  return attention.position() == config::RELATIVE_BIAS && attention.relative_bias().shared();
}

Parameter* register_positions(const Scope& scope, const config::Model& model) {
  if (model.attention().position() != config::LEARNED_POSITIONS) return nullptr;
  return &scope.as(Role::kEmbedding)
              .table("position_embedding", {model.attention().max_positions(), model.d_model()},
                     {Init::kNormal, config::declared_init_std(model)});
}

std::vector<DecoderLayer> make_layers(const Scope& scope, const config::Model& model,
                                      const parallel::Mesh& mesh, Parameter* relative_bias) {
  std::vector<DecoderLayer> layers;
  layers.reserve(model.num_layers());
  int64_t moe_index = 0;
  for (int64_t layer = 0; layer < model.num_layers(); ++layer) {
    layers.emplace_back(scope / layer, model, mesh, LayerPlace{layer, moe_index, relative_bias});
    moe_index += config::is_moe_layer(model, layer) * config::routers_per_moe_layer(model);
  }
  return layers;
}

}  // namespace

Decoder::Decoder(const Scope& root, const config::Model& model, const parallel::Mesh& mesh)
    : model_(model),
      embedding_(register_embedding(root, model)),
      position_embedding_(register_positions(root, model)),
      relative_bias_(shares_relative_bias(model.attention()) ? &register_relative_bias(root, model)
                                                             : nullptr),
      layers_(make_layers(root / "layers", model, mesh, relative_bias_)),
      final_norm_(root, "final_norm", norm_options(model), model.d_model()) {
  if (model.has_mtp()) {
    const int64_t moe_index = config::num_lasting_routers(model);
    mtp_.emplace((root / "mtp").training_only(), model, mesh,
                 LayerPlace{model.num_layers(), moe_index, relative_bias_});
  }
  output_ = register_output(root, model);
}

at::Tensor Decoder::embed(const at::Tensor& tokens) const {
  const at::Tensor x_TD = embedding(tokens.flatten(), embedding_);
  return model_.embedding_scale() == 1 ? x_TD : x_TD * model_.embedding_scale();
}

at::Tensor Decoder::embed_from(int64_t seen, const at::Tensor& tokens_BS) const {
  const at::Tensor x_TD = embed(tokens_BS);
  if (!position_embedding_) return x_TD;
  const int64_t length = tokens_BS.size(1);
  if (seen + length > longest_text()) {
    throw ConfigError(
        fmt::format("the text has {} positions and model.attention.max_positions is {}; shorten "
                    "it, or train a model with more",
                    seen + length, longest_text()));
  }
  const at::Tensor position_S = at::arange(seen, seen + length, at::kLong);
  const at::Tensor position_SD = embedding(position_S, *position_embedding_);
  return (x_TD.view({-1, length, model_.d_model()}) + position_SD).flatten(0, 1);
}

int64_t Decoder::longest_text() const {
  return position_embedding_ ? position_embedding_->shape[0] : std::numeric_limits<int64_t>::max();
}

at::Tensor Decoder::hidden(const at::Tensor& normed_TD) const {
  // The logits are linear in it.
  const at::Tensor x_TD = for_output(normed_TD, model_);
  return model_.output_scale() == 1 ? x_TD : x_TD * model_.output_scale();
}

AttentionInput Decoder::input_at(int64_t sequences, int64_t seen, int64_t length) const {
  const config::Attention& attention = model_.attention();
  AttentionInput input{sequences, length, {}, {}, {}};
  if (attention.position() == config::ROPE) {
    input.rotary = rotary_tables(attention, seen, length);
  } else if (attention.position() == config::RELATIVE_BIAS) {
    input.bucket_SS =
        relative_buckets(attention.relative_bias(), seen, length, seen + length, false);
  }
  return input;
}

at::Tensor Decoder::run_layers(at::Tensor x_TD, const AttentionInput& input,
                               const StepContext& context, bool recompute) const {
  for (const DecoderLayer& layer : layers_) {
    x_TD = run_layer(layer, x_TD, input, context, recompute);
  }
  return x_TD;
}

at::Tensor Decoder::loss(const TokenBatch& batch, const StepContext& context, double scale,
                         const at::Tensor& nll, bool recompute) const {
  const at::Tensor x_TD = embed_from(0, batch.tokens_BS);
  AttentionInput input = input_at(batch.tokens_BS.size(0), 0, batch.tokens_BS.size(1));
  input.mask_B1SS =
      document_mask(batch.documents_BS, model_.attention().sliding_window(), x_TD.scalar_type());
  StepContext with_ids = with_token_ids(context, batch.tokens_BS);
  if (context.training && model_.moe().layer_aggregation() == config::POOLED_LAYERS) {
    with_ids.routing.pool = std::make_shared<PooledBalance>(config::num_routers(model_));
  }
  const at::Tensor last_TD = run_layers(x_TD, input, with_ids, recompute);
  at::Tensor loss;
  {
    const ProfiledPart part("sy::loss");
    loss = vocabulary_loss(hidden(final_norm_.forward(last_TD)), output_weight(),
                           batch.targets_BS.flatten(), scale, nll, output_z_loss(model_, context));
  }
  if (!mtp_ || !context.training) return loss;
  const at::Tensor ahead = mtp_loss(batch, last_TD, input, with_ids, {scale, recompute});
  return loss + (ahead - ahead.detach());  // the gradient without the value
}

at::Tensor Decoder::mtp_loss(const TokenBatch& batch, const at::Tensor& x_TD,
                             const AttentionInput& input, const StepContext& context,
                             const Training& training) const {
  const NextTokens tokens = next_tokens(batch);
  const StepContext with_ids = with_token_ids(context, tokens.next_BS);
  const at::Tensor ahead_TD =
      mtp_->forward({x_TD, embed(tokens.next_BS)}, input, with_ids, training.recompute);
  const ProfiledPart part("sy::loss");
  const double weight = mtp_coefficient(model_, context);
  const at::Tensor loss = vocabulary_loss(hidden(ahead_TD), output_weight(),
                                          tokens.targets_BS.flatten(), training.scale * weight, {});
  if (context.sums) (*context.sums)["mtp"] += {loss.item<double>() / weight};
  return loss;
}

at::Tensor Decoder::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                                std::vector<KvCache>& caches) const {
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  const int64_t seen = caches.empty() ? 0 : caches[0].length();
  caches.resize(layers_.size());
  at::Tensor x_TD = embed_from(seen, tokens_BS);
  AttentionInput input = input_at(sequences, seen, length);
  input.mask_B1SS =
      continuation_mask(seen, length, model_.attention().sliding_window(), x_TD.scalar_type());
  const StepContext with_ids = with_token_ids(context, tokens_BS);
  for (size_t i = 0; i < layers_.size(); ++i) {
    RoutingDecision decision;
    x_TD = layers_[i].forward(x_TD, input, with_ids, decision, &caches[i]);
  }
  const at::Tensor last = x_TD.view({sequences, length, -1}).select(1, length - 1);
  return vocabulary_logits(hidden(final_norm_.forward(last)), output_weight());
}

}  // namespace switchyard::models
