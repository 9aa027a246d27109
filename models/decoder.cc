#include "models/decoder.h"

#include <memory>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "models/decoder_layer.h"
#include "models/layers/init.h"
#include "models/moe/losses/balance.h"

namespace switchyard::models {
namespace {

bool learns_positions(const config::Model& model) {
  return model.attention().position() == config::LEARNED_POSITIONS;
}

Parameter& register_positions(const Scope& scope, const config::Model& model) {
  return scope.as(Role::kEmbedding)
      .table("position_embedding", {model.attention().max_positions(), model.d_model()},
             normal_init(model));
}

// Null: there is none, or each layer has its own. All stages of a pipeline hold it.
Parameter* register_shared_bias(const Scope& scope, const config::Model& model) {
  const config::Attention& attention = model.attention();
  const bool is_shared =
      attention.position() == config::RELATIVE_BIAS && attention.relative_bias().shared();
  if (!is_shared) return nullptr;
  Parameter& bias = register_relative_bias(scope, model);
  if (scope.layout()[Axis::kPipeline].size > 1) bias.summed.insert(Axis::kPipeline);
  return &bias;
}

}  // namespace

Decoder::Decoder(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
                 const Slice& held)
    : TextModel(root, model, mesh, held) {
  if (held.begin == 0 && learns_positions(model))
    position_embedding_ = &register_positions(root, model);
  Parameter* bias = register_shared_bias(root, model);
  for (int64_t i = held.begin; i < held.end; ++i)
    layers_.push_back(std::make_unique<DecoderLayer>(root / "layers" / i, model, mesh, i, bias));
  if (!has_head()) return;
  const Norm final_norm(root, "final_norm", model);
  if (model.has_mtp()) mtp_.emplace((root / "mtp").training_only(), model, mesh, bias);
  end_with(root, final_norm);
}

int64_t Decoder::longest_text() const {
  return learns_positions(config_) ? config_.attention().max_positions()
                                   : TextModel::longest_text();
}

at::Tensor Decoder::embed(const Pass& pass) const {
  const at::Tensor x_TD = TextModel::embed(pass);
  if (!position_embedding_) return x_TD;
  const int64_t length = pass.attention.length, end = pass.seen + length;
  if (end > longest_text()) {
    throw ConfigError(
        fmt::format("the text has {} positions and model.attention.max_positions is {}; shorten "
                    "it, or train a model with more",
                    end, longest_text()));
  }
  const at::Tensor position_SD = switchyard::embedding(
      at::arange(pass.seen, end, pass.context.token_ids_T.options()), *position_embedding_);
  const at::Tensor position_TD =
      position_SD.expand({pass.attention.sequences, -1, -1}).reshape({-1, config_.d_model()});
  return x_TD + pass.context.rows.own(position_TD);
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
  pass.attention.mask_B1SS =
      document_mask(batch.documents_BS, config_.attention().sliding_window(), compute_options());
  if (context.training && config_.moe().layer_aggregation() == config::POOLED_LAYERS) {
    pass.context.routing.pool = std::make_shared<PooledBalance>(config::num_routers(config_));
  }
  return pass;
}

Pass Decoder::go_on(const at::Tensor& tokens_BS, const StepContext& context,
                    const TextState& state) const {
  Pass pass = pass_at(state.seen, tokens_BS, context);
  pass.attention.mask_B1SS = continuation_mask(
      state.seen, pass.attention.length, config_.attention().sliding_window(), compute_options());
  return pass;
}

}  // namespace switchyard::models
