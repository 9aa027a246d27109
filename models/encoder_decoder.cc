#include "models/encoder_decoder.h"

#include <memory>
#include <utility>

#include <ATen/OpMathType.h>

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "models/layers/dropout.h"
#include "models/layers/position.h"
#include "models/t5_layer.h"

namespace switchyard::models {
namespace {

// Random streams of dropout on embeddings, beyond those of the layers.
constexpr uint32_t kSourceDropout = 1u << 30, kTargetDropout = kSourceDropout + 1;

at::Tensor is_real_source(const TokenBatch& batch) {
  const at::Tensor position =
      at::arange(batch.source_BM.size(1), batch.source_BM.options()).unsqueeze(0);
  return position < batch.source_counts_B.unsqueeze(1);
}

// The batch says which tokens are padding, whatever whole rows the context may name.
StepContext mark_padding(StepContext context, const at::Tensor& is_real_BS) {
  context.is_real_T = is_real_BS.flatten();
  return context;
}

// The encoder sees rows of another length than the decoder, whose batch the context describes.
StepContext for_source(StepContext context, const at::Tensor& is_real_BM, int64_t length) {
  context.tokens = context.tokens.with_length(length, is_real_BM.size(1));
  context.group_tokens = context.group_tokens / length * is_real_BM.size(1);
  context.count = context.source_count;
  return mark_padding(std::move(context), is_real_BM);
}

// The decoder must not see whose scores are greater further on: there, tokens choose where experts
// would, and ask by position.
config::Model for_decoder(config::Model model) {
  const bool experts_choose = model.moe().router().selection() == config::EXPERT_CHOICE;
  const bool ranks = experts_choose || config::ranks_tokens(model.moe());
  if (!ranks || model.moe().allow_future()) return model;
  config::Moe& moe = *model.mutable_moe();
  moe.mutable_capacity()->set_policy(config::BY_POSITION);
  if (experts_choose) {
    moe.mutable_router()->set_selection(config::TOP_K);
    moe.mutable_router()->set_score(config::SOFTMAX);
  }
  return model;
}

Layers make_layers(const Scope& stack, const config::Model& model, const parallel::Mesh& mesh,
                   bool is_decoder, Parameter& bias) {
  Layers layers;
  for (int64_t i = 0; i < model.num_layers(); ++i) {
    const T5Layer::Place place{is_decoder, i, config::first_router(model, i, is_decoder), &bias};
    layers.push_back(std::make_unique<T5Layer>(stack / "layers" / i, model, mesh, place));
  }
  return layers;
}

}  // namespace

EncoderDecoder::EncoderDecoder(const Scope& root, const config::Model& model,
                               const parallel::Mesh& mesh)
    : TextModel(root, model, mesh, {0, model.num_layers()}),
      encoder_bias_(register_relative_bias(root / "encoder", model)),
      encoder_norm_(root / "encoder", "final_norm", model),
      encoder_(make_layers(root / "encoder", model, mesh, /*is_decoder=*/false, encoder_bias_)),
      decoder_bias_(register_relative_bias((root / "decoder").of_target(), model)) {
  const Scope decoder = (root / "decoder").of_target();
  const Norm final_norm(decoder, "final_norm", model);
  layers_ = make_layers(decoder, for_decoder(model), mesh, /*is_decoder=*/true, decoder_bias_);
  end_with(root.of_target(), final_norm, final_dropout(true));
}

at::TensorOptions EncoderDecoder::mask_options() const {
  const at::TensorOptions options = compute_options();
  return options.dtype(at::toOpMathType(c10::typeMetaToScalarType(options.dtype())));
}

HeadDropout EncoderDecoder::final_dropout(bool is_decoder) const {
  const auto behind_layers = static_cast<uint32_t>(2 * config_.num_layers()) * T5Layer::kParts;
  return {config_.dropout(), behind_layers + (is_decoder ? 1 : 0)};
}

at::Tensor EncoderDecoder::embed(const Pass& pass) const {
  return embedding_->forward(pass.context, kTargetDropout);
}

at::Tensor EncoderDecoder::run_encoder(const at::Tensor& source_BM, const at::Tensor& mask_B11M,
                                       const StepContext& context, bool recompute) const {
  const int64_t length = source_BM.size(1);
  Pass pass = pass_over(source_BM, context);
  pass.recompute = recompute;
  pass.attention.mask_B1SS = mask_B11M;
  pass.attention.bucket_SS =
      relative_buckets(config_.attention().relative_bias(), 0, length, length, true);
  if (!recompute) pass.bias_BHSS = position_bias(pass.attention, encoder_bias_);
  at::Tensor x_TD = embedding_->forward(pass.context, kSourceDropout);
  int64_t number = config_.num_layers();  // counted after the decoder's
  for (const auto& layer : encoder_) x_TD = run_layer(*layer, number++, x_TD, pass);
  const auto [rate, stream] = final_dropout(false);
  return pass.context.rows.gather(dropout(encoder_norm_.forward(x_TD), rate, pass.context, stream));
}

Pass EncoderDecoder::decoder_pass(int64_t seen, const at::Tensor& tokens_BS,
                                  const StepContext& context) const {
  const int64_t length = tokens_BS.size(1);
  Pass pass = pass_over(tokens_BS, context, seen);
  pass.attention.mask_B1SS = continuation_mask(seen, length, /*window=*/0, mask_options());
  pass.attention.bucket_SS =
      relative_buckets(config_.attention().relative_bias(), seen, length, seen + length, false);
  return pass;
}

Pass EncoderDecoder::begin(const TokenBatch& batch, const StepContext& context,
                           bool recompute) const {
  const at::Tensor is_real_BM = is_real_source(batch);
  const at::Tensor mask = padding_mask(is_real_BM, mask_options());
  const StepContext source = for_source(context, is_real_BM, batch.tokens_BS.size(1));
  const at::Tensor memory_TD = run_encoder(batch.source_BM, mask, source, recompute);
  Pass pass = decoder_pass(0, batch.tokens_BS, mark_padding(context, batch.targets_BS >= 0));
  pass.recompute = recompute;
  if (!recompute) pass.bias_BHSS = position_bias(pass.attention, decoder_bias_);
  pass.memory_TD = memory_TD;
  pass.memory_mask_B11M = mask;
  return pass;
}

TextState EncoderDecoder::encode(const at::Tensor& source_BM, const StepContext& context) const {
  const at::Tensor mask = at::zeros({1, 1, 1, source_BM.size(1)}, mask_options());
  TextState state;
  state.memory_TD = run_encoder(source_BM, mask, context, /*recompute=*/false);
  return state;
}

Pass EncoderDecoder::go_on(const at::Tensor& tokens_BS, const StepContext& context,
                           const TextState& state) const {
  Pass pass = decoder_pass(state.seen, tokens_BS, context);
  pass.bias_BHSS = position_bias(pass.attention, decoder_bias_);
  pass.memory_TD = state.memory_TD;
  return pass;
}

}  // namespace switchyard::models
