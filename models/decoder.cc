#include "models/decoder.h"

#include <memory>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "models/decoder_layer.h"
#include "models/moe/losses/balance.h"

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

}  // namespace

Decoder::Decoder(const Scope& root, const config::Model& model, const parallel::Mesh& mesh)
    : TextModel(root, model), position_embedding_(register_positions(root, model)) {
  LayerPlace place{0, 0, nullptr};
  if (shares_relative_bias(model.attention()))
    place.relative_bias = &register_relative_bias(root, model);
  for (; place.layer < model.num_layers(); ++place.layer) {
    layers_.push_back(
        std::make_unique<DecoderLayer>(root / "layers" / place.layer, model, mesh, place));
    if (config::is_moe_layer(model, static_cast<int>(place.layer)))
      place.moe_index += config::routers_per_moe_layer(model);
  }
  const Norm final_norm(root, "final_norm", norm_options(model), model.d_model());
  if (model.has_mtp()) mtp_.emplace((root / "mtp").training_only(), model, mesh, place);
  end_with(root, final_norm);
}

int64_t Decoder::longest_text() const {
  return position_embedding_ ? position_embedding_->shape[0] : TextModel::longest_text();
}

at::Tensor Decoder::embed(const at::Tensor& tokens_BS, const Pass& pass) const {
  const at::Tensor x_TD = embedding_.forward(tokens_BS, pass.context, /*stream=*/0);
  if (!position_embedding_) return x_TD;
  const int64_t length = tokens_BS.size(1), end = pass.seen + length;
  if (end > longest_text()) {
    throw ConfigError(
        fmt::format("the text has {} positions and model.attention.max_positions is {}; shorten "
                    "it, or train a model with more",
                    end, longest_text()));
  }
  const at::Tensor position_SD =
      switchyard::embedding(at::arange(pass.seen, end, tokens_BS.options()), *position_embedding_);
  return (x_TD.view({-1, length, config_.d_model()}) + position_SD).flatten(0, 1);
}

Pass Decoder::pass_at(int64_t seen, const at::Tensor& tokens_BS, const StepContext& context) const {
  const config::Attention& attention = config_.attention();
  const int64_t length = tokens_BS.size(1);
  Pass pass = pass_over(tokens_BS, context, seen);
  if (attention.position() == config::ROPE) {
    pass.attention.rotary = rotary_tables(attention, seen, length);
  } else if (attention.position() == config::RELATIVE_BIAS) {
    pass.attention.bucket_SS =
        relative_buckets(attention.relative_bias(), seen, length, seen + length, false);
  }
  return pass;
}

Pass Decoder::begin(const TokenBatch& batch, const StepContext& context, bool recompute) const {
  Pass pass = pass_at(0, batch.tokens_BS, context);
  pass.recompute = recompute;
  pass.attention.mask_B1SS = document_mask(batch.documents_BS, config_.attention().sliding_window(),
                                           embedding_.weight().value.scalar_type());
  if (context.training && config_.moe().layer_aggregation() == config::POOLED_LAYERS) {
    pass.context.routing.pool = std::make_shared<PooledBalance>(config::num_routers(config_));
  }
  return pass;
}

Pass Decoder::go_on(const at::Tensor& tokens_BS, const StepContext& context,
                    const TextState& state) const {
  Pass pass = pass_at(state.seen, tokens_BS, context);
  pass.attention.mask_B1SS =
      continuation_mask(state.seen, pass.attention.length, config_.attention().sliding_window(),
                        embedding_.weight().value.options());
  return pass;
}

}  // namespace switchyard::models
