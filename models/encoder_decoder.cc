#include "models/encoder_decoder.h"

#include <cmath>
#include <limits>
#include <memory>

#include <ATen/record_function.h>

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/recompute.h"
#include "models/layers/dropout.h"

namespace switchyard::models {
namespace {

// Random streams of dropout: a few for each layer, and beyond those for the embeddings.
enum Part : uint32_t { kSelf = 0, kCross = 1, kFfn = 2, kExtra = 3, kParts = 4 };
constexpr uint32_t kSourceDropout = 1u << 30, kTargetDropout = kSourceDropout + 1;

constexpr double kHidden = -std::numeric_limits<double>::infinity();

// 0 where a source position holds a token, -inf in padding. A row without any sees its first
// position, so that the softmax has something to share out.
at::Tensor source_mask(const at::Tensor& counts_B, int64_t length) {
  const at::Tensor beyond =
      at::arange(length, at::kLong).unsqueeze(0).ge(counts_B.clamp_min(1).unsqueeze(1));
  return at::zeros(beyond.sizes(), at::kFloat)
      .masked_fill_(beyond, kHidden)
      .unsqueeze(1)
      .unsqueeze(1);
}

// 0 for keys not later than the query, -inf for others: queries first .. first+queries-1.
at::Tensor causal_mask(int64_t first, int64_t queries) {
  const at::Tensor later =
      at::ones({queries, first + queries}, at::kBool).tril(first).logical_not();
  return at::zeros({1, 1, queries, first + queries}, at::kFloat).masked_fill_(later, kHidden);
}

// The encoder sees rows of another length than the decoder, whose batch the context describes.
StepContext for_source(StepContext context, int64_t source_length, int64_t length) {
  for (int64_t* tokens : {&context.first_token, &context.group_tokens, &context.tokens_in_step,
                          &context.tokens_in_micro_batch}) {
    *tokens = *tokens / length * source_length;
  }
  if (context.num_real_tokens >= 0) {
    context.num_real_tokens = context.num_real_tokens / length * source_length;
  }
  return context;
}

Parameter& norm(const Scope& scope, const char* name, const config::Model& model) {
  return scope.parameter(name, {model.d_model()}, {Init::kConstant, 1}, false);
}

}  // namespace

T5Layer::T5Layer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
                 const Place& place)
    : model_(model),
      number_(static_cast<uint32_t>(place.number)),
      attention_norm_(norm(scope, "attention_norm", model)),
      attention_(scope / "attention", model),
      ffn_norm_(norm(scope, "ffn_norm", model)) {
  if (place.is_decoder) {
    cross_norm_ = &norm(scope, "cross_attention_norm", model);
    cross_.emplace(scope / "cross_attention", model);
  }
  if (config::is_moe_layer(model, static_cast<int>(place.layer))) {
    moe_.emplace(scope / "moe", model, mesh, number_, place.moe_index);
  } else {
    dense_.emplace(scope / "ffn", model, model.ffn(), model.d_ff());
  }
  if (moe_ && model.moe().stacking() > config::NO_STACKING) {
    extra_norm_ = &norm(scope, "extra_ffn_norm", model);
    extra_.emplace(scope / "extra_ffn", model, model.ffn(), model.d_ff());
  }
}

at::Tensor T5Layer::drop(const at::Tensor& y_TD, const Input& input, uint32_t part) const {
  return dropout(y_TD, model_.dropout(), input.context, number_ * kParts + part);
}

at::Tensor T5Layer::forward_extra(const at::Tensor& h_TD, const Input& input) const {
  return h_TD +
         drop(extra_->forward(rms_norm(h_TD, *extra_norm_, model_.norm_eps())), input, kExtra);
}

at::Tensor T5Layer::feed_forward(const at::Tensor& x_TD, const Input& input,
                                 RoutingDecision& decision) const {
  const config::Stacking stacking = extra_ ? model_.moe().stacking() : config::NO_STACKING;
  const at::Tensor h_TD = stacking == config::DENSE_BEFORE ? forward_extra(x_TD, input) : x_TD;
  const at::Tensor normed_TD = rms_norm(h_TD, ffn_norm_, model_.norm_eps());
  const at::Tensor y_TD =
      moe_ ? moe_->forward(normed_TD, input.context, decision) : dense_->forward(normed_TD);
  const at::Tensor z_TD = h_TD + drop(y_TD, input, kFfn);
  return stacking == config::DENSE_AFTER ? forward_extra(z_TD, input) : z_TD;
}

at::Tensor T5Layer::forward(const at::Tensor& x_TD, const at::Tensor& memory_TD,
                            const at::Tensor& bias, const Input& input,
                            RoutingDecision& decision) const {
  const at::Tensor normed_TD = rms_norm(x_TD, attention_norm_, model_.norm_eps());
  at::Tensor h_TD =
      x_TD + drop(attention_.forward(normed_TD, normed_TD, input.sequences, bias), input, kSelf);
  if (cross_) {
    const at::Tensor query_TD = rms_norm(h_TD, *cross_norm_, model_.norm_eps());
    h_TD =
        h_TD + drop(cross_->forward(query_TD, memory_TD, input.sequences, input.source_mask_B11M),
                    input, kCross);
  }
  return feed_forward(h_TD, input, decision);
}

at::Tensor T5Layer::next(const at::Tensor& x_TD, const at::Tensor& memory_TD,
                         const at::Tensor& bias, const Input& input, Caches& caches) const {
  const at::Tensor normed_TD = rms_norm(x_TD, attention_norm_, model_.norm_eps());
  attention_.extend(normed_TD, input.sequences, caches.self);
  at::Tensor h_TD = x_TD + attention_.attend(normed_TD, caches.self, bias);
  if (caches.cross.length() == 0) cross_->extend(memory_TD, input.sequences, caches.cross);
  h_TD = h_TD + cross_->attend(rms_norm(h_TD, *cross_norm_, model_.norm_eps()), caches.cross,
                               input.source_mask_B11M);
  RoutingDecision decision;
  return feed_forward(h_TD, input, decision);
}

EncoderDecoder::EncoderDecoder(ParameterTable& table, const config::Model& model,
                               const parallel::Mesh& mesh)
    : model_(model),
      embedding_(Scope(table).parameter("embedding", {model.vocab_size(), model.d_model()},
                                        {Init::kNormal, model.init_std()})),
      encoder_(make_stack(Scope(table) / "encoder", mesh, false)),
      decoder_(make_stack(Scope(table) / "decoder", mesh, true)) {
  if (!model.tie_embeddings()) {
    output_ = &Scope(table).parameter("output", {model.vocab_size(), model.d_model()},
                                      {Init::kNormal, model.init_std()});
  }
}

EncoderDecoder::Stack EncoderDecoder::make_stack(const Scope& scope, const parallel::Mesh& mesh,
                                                 bool is_decoder) const {
  Stack stack{RelativeBias(scope, model_, /*bidirectional=*/!is_decoder),
              {},
              norm(scope, "final_norm", model_)};
  const int64_t layers = model_.num_layers(), moe_layers = config::num_moe_layers(model_) / 2;
  stack.layers.reserve(static_cast<size_t>(layers));
  T5Layer::Place place{0, is_decoder ? layers : 0, is_decoder ? moe_layers : 0, is_decoder};
  for (; place.layer < layers; ++place.layer, ++place.number) {
    stack.layers.emplace_back(scope / "layers" / place.layer, model_, mesh, place);
    place.moe_index += config::is_moe_layer(model_, static_cast<int>(place.layer));
  }
  return stack;
}

at::Tensor EncoderDecoder::embed(const at::Tensor& tokens, const StepContext& context,
                                 uint32_t stream) const {
  return dropout(embedding(tokens.flatten(), embedding_), model_.dropout(), context, stream);
}

at::Tensor EncoderDecoder::self_bias(const Stack& stack, const at::Tensor& x_TD,
                                     const T5Layer::Input& input) const {
  const int64_t length = x_TD.size(0) / input.sequences;
  const at::ScalarType type = x_TD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const bool is_decoder = &stack == &decoder_;
  return stack.bias.forward(0, length, length, type) +
         (is_decoder ? causal_mask(0, length) : input.source_mask_B11M);
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
        [this, &stack, &layer, input, decision, rows](const at::Tensor& packed, bool) {
          const at::Tensor x = packed.narrow(0, 0, rows);
          const at::Tensor memory = packed.narrow(0, rows, packed.size(0) - rows);
          return layer.forward(x, memory, self_bias(stack, x, input), input, *decision);
        },
        memory_TD.defined() ? at::cat({x_TD, memory_TD}) : x_TD);
  }
  return dropout(
      rms_norm(x_TD, stack.final_norm, model_.norm_eps()), model_.dropout(), input.context,
      kParts * static_cast<uint32_t>(2 * model_.num_layers()) + (&stack == &decoder_ ? 1 : 0));
}

at::Tensor EncoderDecoder::encode(const at::Tensor& source_BM, const T5Layer::Input& input,
                                  bool recompute) const {
  return run_stack(encoder_, embed(source_BM, input.context, kSourceDropout), {}, input, recompute);
}

// A tied output matrix has the embedding's size, which is made for looking up.
at::Tensor EncoderDecoder::scaled(const at::Tensor& hidden_TD) const {
  return output_ ? hidden_TD : hidden_TD / std::sqrt(static_cast<double>(model_.d_model()));
}

at::Tensor EncoderDecoder::loss(const TokenBatch& batch, const StepContext& context, double scale,
                                const at::Tensor& nll, bool recompute) const {
  const int64_t sequences = batch.tokens_BS.size(0), source_length = batch.source_BM.size(1);
  const at::Tensor mask = source_mask(batch.source_counts_B, source_length);
  const StepContext source = for_source(context, source_length, batch.tokens_BS.size(1));
  const at::Tensor memory_TD = encode(batch.source_BM, {sequences, mask, source}, recompute);
  const at::Tensor hidden_TD = run_stack(decoder_, embed(batch.tokens_BS, context, kTargetDropout),
                                         memory_TD, {sequences, mask, context}, recompute);
  RECORD_USER_SCOPE("sy::loss");
  return vocabulary_loss(scaled(hidden_TD), output_weight(), batch.targets_BS.flatten(), scale,
                         nll);
}

EncoderDecoder::State EncoderDecoder::encode(const at::Tensor& source_BM,
                                             const StepContext& context) const {
  const int64_t sequences = source_BM.size(0), length = source_BM.size(1);
  const at::Tensor mask = at::zeros({1, 1, 1, length}, at::kFloat);
  return {encode(source_BM, {sequences, mask, context}, false),
          std::vector<T5Layer::Caches>(decoder_.layers.size())};
}

at::Tensor EncoderDecoder::next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                                       State& state) const {
  const int64_t sequences = tokens_BS.size(0), length = tokens_BS.size(1);
  const int64_t seen = state.layers[0].self.length();
  at::Tensor x_TD = embed(tokens_BS, context, kTargetDropout);
  const at::ScalarType type = x_TD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor bias =
      decoder_.bias.forward(seen, length, seen + length, type) + causal_mask(seen, length);
  for (size_t i = 0; i < decoder_.layers.size(); ++i) {
    x_TD = decoder_.layers[i].next(x_TD, state.memory_TD, bias, {sequences, {}, context},
                                   state.layers[i]);
  }
  const at::Tensor last = x_TD.view({sequences, length, -1}).select(1, length - 1);
  return linear(scaled(rms_norm(last, decoder_.final_norm, model_.norm_eps())), output_weight())
      .to(at::kFloat);
}

}  // namespace switchyard::models
