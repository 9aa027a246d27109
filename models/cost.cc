#include "models/cost.h"

#include "core/config/layers.h"
#include "core/data/span_corruption.h"

namespace switchyard::models {

namespace {

// Positions that are seen in a layer, per token, on average over the sequence. Of an
// encoder-decoder: a source token sees all of the source, a target token that and half of the
// target.
double mean_visible(const config::Model& model, const SequenceLengths& lengths) {
  const auto length = static_cast<double>(lengths.sequence);
  const auto target = static_cast<double>(lengths.target);
  if (target > 0) return length + target + target * target / (2 * length);
  const double window = model.attention().sliding_window();
  return window > 0 && window < length ? window - window * window / (2 * length) : length / 2;
}

// Of one layer. In double: a long sequence times a large model leaves 64 bits.
double score_flops(const config::Model& model, const SequenceLengths& lengths) {
  const config::Attention& attention = model.attention();
  const int widths = attention.head_dim() + config::value_width(attention);
  return 2.0 * attention.num_heads() * widths * mean_visible(model, lengths);
}

// What the first product of an FFN leaves for backward.
double saved_width(config::Ffn kind, double d_ff) {
  return config::is_gated(kind) ? 2 * d_ff : d_ff;
}

// Dispatched rows, the hidden layer's first product, rows come home, output.
double moe_elements(const config::Moe& moe, double d_model) {
  const config::SharedExpert& shared = moe.shared_expert();
  const double shared_ff = double{1} * shared.count() * shared.d_ff();
  const double hidden = double{1} * moe.d_ff() * moe.hidden_layers();
  return moe.top_k() * (2 * d_model + saved_width(moe.ffn(), hidden)) + d_model +
         (shared_ff > 0 ? d_model + saved_width(shared.ffn(), shared_ff) : 0);
}

}  // namespace

SequenceLengths sequence_lengths(const config::RunConfig& config) {
  const config::Data& data = config.data();
  if (config.model().architecture() != config::ENCODER_DECODER) return {data.sequence_length()};
  if (data.objective() == config::TRANSLATION)
    return {data.sequence_length(), data.target_length()};
  const SpanCorruption spans{data.spans().density(), data.spans().mean_length()};
  return {data.sequence_length(), fit_input(data.sequence_length(), spans).target};
}

std::vector<FlopTerm> forward_flops(const config::Model& model, const SequenceLengths& lengths) {
  std::vector<FlopTerm> terms;
  const Census counts = census(model);
  const double target_share =
      static_cast<double>(lengths.target) / static_cast<double>(lengths.sequence);
  for (const Component& component : counts.components) {
    const double multiplied = static_cast<double>(component.multiplied) +
                              target_share * static_cast<double>(component.multiplied_by_target);
    if (multiplied == 0) continue;
    const bool is_attention = component.name == "attention";
    terms.push_back({is_attention ? "attention_projections" : component.name, 2.0 * multiplied});
    if (is_attention)
      terms.push_back({"attention_scores", model.num_layers() * score_flops(model, lengths)});
  }
  const double output = 2.0 * model.d_model() * model.vocab_size();
  if (config::has_embedding(model) && model.tie_embeddings())
    terms.push_back({"output", lengths.target > 0 ? target_share * output : output});
  if (model.has_mtp())
    terms.push_back({"mtp", 2.0 * static_cast<double>(counts.training_only.multiplied) +
                                score_flops(model, lengths) + output});
  return terms;
}

double flops_per_token(const config::Model& model, const SequenceLengths& lengths) {
  double forward = 0;
  for (const FlopTerm& term : forward_flops(model, lengths)) forward += term.flops;
  return 3 * forward;
}

double activation_bytes(const config::RunConfig& config, int ranks) {
  const config::Model& model = config.model();
  const double element = config.runtime().compute() == config::BF16   ? 2
                         : config.runtime().compute() == config::FP32 ? 4
                                                                      : 8;
  const SequenceLengths lengths = sequence_lengths(config);
  const auto length = static_cast<double>(lengths.sequence);
  const auto target = static_cast<double>(lengths.target);
  const double d = model.d_model();
  const double heads = double{1} * model.attention().num_heads() * model.attention().head_dim();
  const double kv = double{1} * model.attention().num_kv_heads() * model.attention().head_dim();
  // Norm input and output, queries and keys before and after rotation, keys and values repeated for
  // all heads, attention's output twice (as computed, and with the heads together), the residual.
  const double attention =
      3 * d + (heads + 2 * kv) + (heads + kv) + (heads > kv ? 2 * heads : 0) + 2 * heads;
  const double dense = saved_width(model.ffn(), model.d_ff()) + d;
  double elements = 0;
  for (int layer = 0; layer < config::num_stack_layers(model); ++layer) {
    elements += attention + 2 * d;  // the second norm's input and output
    if (config::is_moe_layer(model, layer)) {
      elements += moe_elements(model.moe(), d) + 4 * d / element;  // the router's float32 input
      if (model.moe().stacking() != config::NO_STACKING) elements += dense + 2 * d;
    } else {
      elements += dense;
    }
  }
  if (model.has_mtp()) elements += 8 * d;  // its norms, their outputs side by side, its input
  elements += 3 * d;
  const double in_decoder = elements + model.num_layers() * attention;  // the cross-attention
  const double sequences =
      double{1} * config.train().global_batch() / config.train().accumulation() / ranks;
  constexpr double kVocabularyRows = 256;  // see core/tensor/vocabulary_loss.cc
  return element * sequences *
             (length * elements + target * in_decoder + length * length + target * target) +
         (element + 4) * kVocabularyRows * model.vocab_size();
}

}  // namespace switchyard::models
