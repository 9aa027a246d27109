#include "models/encoder_decoder.h"

#include <memory>
#include <utility>

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"
#include "core/tensor/recompute.h"
#include "models/initializers.h"
#include "models/layers/dropout.h"
#include "models/layers/output_z_loss.h"
#include "models/layers/position.h"
#include "models/layers/vocabulary.h"

namespace switchyard::models {
namespace {

// Random streams of dropout: a few for each layer, and beyond those for the embeddings.
enum Part : uint32_t { kSelf = 0, kCross = 1, kFfn = 2, kExtra = 3, kParts = 4 };
constexpr uint32_t kSourceDropout = 1u << 30, kTargetDropout = kSourceDropout + 1;

at::ScalarType mask_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor is_real_source(const TokenBatch& batch) {
  const at::Tensor position = at::arange(batch.source_BM.size(1), at::kLong).unsqueeze(0);
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

std::optional<SwitchProjections> switch_projections(const Scope& scope, const config::Model& model,
                                                    const parallel::Mesh& mesh,
                                                    const T5Layer::Place& place) {
  if (!model.attention().switch_projections() ||
      !config::is_moe_layer(model, static_cast<int>(place.layer)))
    return std::nullopt;
  return SwitchProjections(scope, model, mesh, static_cast<uint32_t>(place.number),
                           place.moe_index);
}

Scope attention_scope(const Scope& layer) { return (layer / "attention").as(Role::kAttention); }

Norm norm(const Scope& scope, const char* name, const config::Model& model) {
  return Norm(scope, name, norm_options(model), model.d_model());
}

}  // namespace

T5Layer::T5Layer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
                 const Place& place)
    : model_(model),
      number_(static_cast<uint32_t>(place.number)),
      attention_norm_(norm(scope, "attention_norm", model)),
      projections_(switch_projections(attention_scope(scope), model, mesh, place)),
      attention_(attention_scope(scope), model,
                 projections_ ? T5Attention::Kind::kProjected : T5Attention::Kind::kSelf),
      ffn_norm_(norm(scope, "ffn_norm", model)) {
  if (place.is_decoder) {
    cross_norm_.emplace(norm(scope, "cross_attention_norm", model));
    cross_.emplace((scope / "cross_attention").as(Role::kAttention), model,
                   T5Attention::Kind::kCross);
  }
  if (config::is_moe_layer(model, static_cast<int>(place.layer))) {
    const int64_t earlier = projections_ ? SwitchProjections::kCount : 0;
    moe_.emplace(scope / "moe", model, mesh, number_, place.moe_index + earlier);
  } else {
    dense_.emplace((scope / "ffn").as(Role::kFfn), model, model.ffn(), model.d_ff());
  }
  if (moe_ && model.moe().stacking() > config::NO_STACKING) {
    extra_norm_.emplace(norm(scope, "extra_ffn_norm", model));
    extra_.emplace((scope / "extra_ffn").as(Role::kFfn), model, model.ffn(), model.d_ff());
  }
}

at::Tensor T5Layer::drop(const at::Tensor& y_TD, const Input& input, uint32_t part) const {
  return dropout(y_TD, model_.dropout(), input.context, number_ * kParts + part);
}

InnerDropout T5Layer::drop_weights(const Input& input, uint32_t part) const {
  return inner_dropout(model_.attention().dropout(), input.context, number_ * kParts + part);
}

InnerDropout T5Layer::drop_hidden(const Input& input) const {
  return inner_dropout(model_.ffn_dropout(), input.context, number_);
}

at::Tensor T5Layer::forward_extra(const at::Tensor& h_TD, const Input& input) const {
  return h_TD +
         drop(extra_->forward(extra_norm_->forward(h_TD), drop_hidden(input)), input, kExtra);
}

at::Tensor T5Layer::feed_forward(const at::Tensor& x_TD, const Input& input,
                                 RoutingDecision& decision) const {
  const config::Stacking stacking = extra_ ? model_.moe().stacking() : config::NO_STACKING;
  const at::Tensor h_TD = stacking == config::DENSE_BEFORE ? forward_extra(x_TD, input) : x_TD;
  const at::Tensor normed_TD = ffn_norm_.forward(h_TD);
  const at::Tensor y_TD = moe_ ? moe_->forward(normed_TD, input.context, decision)
                               : dense_->forward(normed_TD, drop_hidden(input));
  const at::Tensor z_TD = h_TD + drop(y_TD, input, kFfn);
  return stacking == config::DENSE_AFTER ? forward_extra(z_TD, input) : z_TD;
}

std::pair<at::Tensor, at::Tensor> T5Layer::project(const at::Tensor& normed_TD,
                                                   const StepContext& context,
                                                   RoutingDecision& decision) const {
  if (!projections_) return {attention_.query(normed_TD), attention_.key_value(normed_TD)};
  const int64_t queries = int64_t{model_.attention().num_heads()} * model_.attention().head_dim();
  const at::Tensor all = projections_->forward(normed_TD, context, decision);
  return {all.slice(1, 0, queries), all.slice(1, queries)};
}

at::Tensor T5Layer::forward(const at::Tensor& x_TD, const at::Tensor& memory_TD,
                            const at::Tensor& bias, const Input& input,
                            RoutingDecision& decision) const {
  const auto [query, key_value] = project(attention_norm_.forward(x_TD), input.context, decision);
  at::Tensor h_TD = x_TD + drop(attention_.forward(query, key_value, input.sequences, bias,
                                                   drop_weights(input, kSelf)),
                                input, kSelf);
  if (cross_) {
    const at::Tensor seeking = cross_->query(cross_norm_->forward(h_TD));
    h_TD = h_TD + drop(cross_->forward(seeking, cross_->key_value(memory_TD), input.sequences,
                                       input.source_mask_B11M, drop_weights(input, kCross)),
                       input, kCross);
  }
  return feed_forward(h_TD, input, decision);
}

at::Tensor T5Layer::next(const at::Tensor& x_TD, const at::Tensor& memory_TD,
                         const at::Tensor& bias, const Input& input, Caches& caches) const {
  RoutingDecision decision;
  const auto [query, key_value] = project(attention_norm_.forward(x_TD), input.context, decision);
  attention_.extend(key_value, input.sequences, caches.self);
  at::Tensor h_TD = x_TD + attention_.attend_to(caches.self, query, bias);
  if (caches.cross.length() == 0)
    cross_->extend(cross_->key_value(memory_TD), input.sequences, caches.cross);
  const at::Tensor seeking = cross_->query(cross_norm_->forward(h_TD));
  h_TD = h_TD + cross_->attend_to(caches.cross, seeking, input.source_mask_B11M);
  return feed_forward(h_TD, input, decision);
}

EncoderDecoder::EncoderDecoder(const Scope& root, const config::Model& model,
                               const parallel::Mesh& mesh)
    : model_(model),
      embedding_(register_embedding(root, model)),
      encoder_(make_stack(root / "encoder", mesh, false)),
      decoder_(make_stack((root / "decoder").of_target(), mesh, true)),
      output_(register_output(root.of_target(), model)) {}

EncoderDecoder::Stack EncoderDecoder::make_stack(const Scope& scope, const parallel::Mesh& mesh,
                                                 bool is_decoder) const {
  Stack stack{register_relative_bias(scope, model_), {}, norm(scope, "final_norm", model_)};
  const int64_t layers = model_.num_layers(), routers = config::num_routers(model_) / 2;
  const config::Model model = is_decoder ? for_decoder(model_) : model_;
  stack.layers.reserve(static_cast<size_t>(layers));
  T5Layer::Place place{0, is_decoder ? layers : 0, is_decoder ? routers : 0, is_decoder};
  for (; place.layer < layers; ++place.layer, ++place.number) {
    stack.layers.emplace_back(scope / "layers" / place.layer, model, mesh, place);
    if (config::is_moe_layer(model_, static_cast<int>(place.layer)))
      place.moe_index += config::routers_per_moe_layer(model_);
  }
  return stack;
}

at::Tensor EncoderDecoder::embed(const at::Tensor& tokens, const StepContext& context,
                                 uint32_t stream) const {
  return dropout(embedding(tokens.flatten(), embedding_), model_.dropout(), context, stream);
}

at::Tensor EncoderDecoder::encoder_bias(const at::Tensor& x_TD, const T5Layer::Input& input) const {
  const int64_t length = x_TD.size(0) / input.sequences;
  const at::Tensor bucket_MM =
      relative_buckets(model_.attention().relative_bias(), 0, length, length, true);
  return relative_bias(bucket_MM, encoder_.relative_bias) + input.source_mask_B11M;
}

at::Tensor EncoderDecoder::decoder_bias(const at::Tensor& x_TD, int64_t seen,
                                        const T5Layer::Input& input) const {
  const int64_t length = x_TD.size(0) / input.sequences;
  const at::Tensor bucket_SS =
      relative_buckets(model_.attention().relative_bias(), seen, length, seen + length, false);
  const at::Tensor bias = relative_bias(bucket_SS, decoder_.relative_bias);
  const at::Tensor mask = continuation_mask(seen, length, /*window=*/0, mask_type(x_TD));
  return mask.defined() ? bias + mask : bias;
}

at::Tensor EncoderDecoder::self_bias(const Stack& stack, const at::Tensor& x_TD,
                                     const T5Layer::Input& input) const {
  return &stack == &encoder_ ? encoder_bias(x_TD, input) : decoder_bias(x_TD, 0, input);
}

// Recompute has one input: the decoder's layers get the memory behind their rows.
at::Tensor EncoderDecoder::run_stack(const Stack& stack, at::Tensor x_TD,
                                     const at::Tensor& memory_TD, const T5Layer::Input& input,
                                     bool recompute) const {
  const at::Tensor bias = recompute ? at::Tensor() : self_bias(stack, x_TD, input);
  const int64_t rows = x_TD.size(0);
  for (const T5Layer& layer : stack.layers) {
    const auto decision = std::make_shared<RoutingDecision>();  // lives until the layer's backward
    if (!recompute) {
      x_TD = layer.forward(x_TD, memory_TD, bias, input, *decision);
      continue;
    }
    x_TD = switchyard::recompute(
        [this, &stack, &layer, input, decision, rows](const at::Tensor& packed) {
          const at::Tensor x = packed.narrow(0, 0, rows);
          const at::Tensor memory = packed.narrow(0, rows, packed.size(0) - rows);
          return layer.forward(x, memory, self_bias(stack, x, input), input, *decision);
        },
        memory_TD.defined() ? at::concat({x_TD, memory_TD}) : x_TD);
  }
  return dropout(
      stack.final_norm.forward(x_TD), model_.dropout(), input.context,
      kParts * static_cast<uint32_t>(2 * model_.num_layers()) + (&stack == &decoder_ ? 1 : 0));
}

at::Tensor EncoderDecoder::encode(const at::Tensor& source_BM, const T5Layer::Input& input,
                                  bool recompute) const {
  T5Layer::Input with_ids = input;
  with_ids.context = with_token_ids(input.context, source_BM);
  return run_stack(encoder_, embed(source_BM, input.context, kSourceDropout), {}, with_ids,
                   recompute);
}

at::Tensor EncoderDecoder::loss(const TokenBatch& batch, const StepContext& context, double scale,
                                const at::Tensor& nll, bool recompute) const {
  const int64_t sequences = batch.tokens_BS.size(0);
  const at::Tensor is_real_BM = is_real_source(batch);
  const at::Tensor mask = padding_mask(is_real_BM, mask_type(embedding_.value));
  const StepContext source = for_source(context, is_real_BM, batch.tokens_BS.size(1));
  const at::Tensor memory_TD = encode(batch.source_BM, {sequences, mask, source}, recompute);
  const StepContext target =
      with_token_ids(mark_padding(context, batch.targets_BS >= 0), batch.tokens_BS);
  const at::Tensor hidden_TD = run_stack(decoder_, embed(batch.tokens_BS, target, kTargetDropout),
                                         memory_TD, {sequences, mask, target}, recompute);
  const ProfiledPart part("sy::loss");
  return vocabulary_loss(for_output(hidden_TD, model_), output_weight(), batch.targets_BS.flatten(),
                         scale, nll, output_z_loss(model_, context));
}

EncoderDecoder::State EncoderDecoder::encode(const at::Tensor& source_BM,
                                             const StepContext& context) const {
  const int64_t sequences = source_BM.size(0), length = source_BM.size(1);
  const at::Tensor mask = at::zeros({1, 1, 1, length}, mask_type(embedding_.value));
  return {encode(source_BM, {sequences, mask, context}, false),
          std::vector<T5Layer::Caches>(decoder_.layers.size())};
}

at::Tensor EncoderDecoder::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                                       State& state) const {
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  const int64_t seen = state.layers[0].self.length();
  const T5Layer::Input input{sequences, {}, with_token_ids(context, tokens_BS)};
  at::Tensor x_TD = embed(tokens_BS, context, kTargetDropout);
  const at::Tensor bias = decoder_bias(x_TD, seen, input);
  for (size_t i = 0; i < decoder_.layers.size(); ++i) {
    x_TD = decoder_.layers[i].next(x_TD, state.memory_TD, bias, input, state.layers[i]);
  }
  const at::Tensor last = x_TD.view({sequences, length, -1}).select(1, length - 1);
  return vocabulary_logits(for_output(decoder_.final_norm.forward(last), model_), output_weight());
}

}  // namespace switchyard::models
