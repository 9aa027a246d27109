#include "models/cost.h"

#include "core/config/layers.h"

namespace switchyard::models {

namespace {

// Positions that a token sees in a layer, on average over the sequence. Of an encoder-decoder: a
// source token all of the source, a target token that and half of the target, at equal lengths.
double mean_visible(const config::Model& model, double length) {
  if (model.architecture() == config::ENCODER_DECODER) return 2.5 * length;
  const double window = model.attention().sliding_window();
  return window > 0 && window < length ? window - window * window / (2 * length) : length / 2;
}

// Of one layer. In double: a long sequence times a large model leaves 64 bits.
double score_flops(const config::Model& model, int64_t sequence_length) {
  const config::Attention& attention = model.attention();
  const int widths = attention.head_dim() + config::value_width(attention);
  return 2.0 * attention.num_heads() * widths *
         mean_visible(model, static_cast<double>(sequence_length));
}

// What the first product of an FFN leaves for backward.
double saved_width(config::Ffn kind, double d_ff) {
  return config::is_gated(kind) ? 2 * d_ff : d_ff;
}

// Dispatched rows, the hidden layer's first product, rows come home, output.
double moe_elements(const config::Moe& moe, double d_model) {
  const config::SharedExpert& shared = moe.shared_expert();
  const double shared_ff = double{1} * shared.count() * shared.d_ff();
  return moe.top_k() * (2 * d_model + saved_width(moe.ffn(), moe.d_ff())) + d_model +
         (shared_ff > 0 ? d_model + saved_width(shared.ffn(), shared_ff) : 0);
}

}  // namespace

std::vector<FlopTerm> forward_flops(const config::Model& model, int64_t sequence_length) {
  std::vector<FlopTerm> terms;
  const Census counts = census(model);
  for (const Component& component : counts.components) {
    if (component.multiplied == 0) continue;
    const bool is_attention = component.name == "attention";
    terms.push_back({is_attention ? "attention_projections" : component.name,
                     2.0 * static_cast<double>(component.multiplied)});
    if (is_attention)
      terms.push_back(
          {"attention_scores", model.num_layers() * score_flops(model, sequence_length)});
  }
  const double output = 2.0 * model.d_model() * model.vocab_size();
  if (model.tie_embeddings()) terms.push_back({"output", output});
  if (model.has_mtp())
    terms.push_back({"mtp", 2.0 * static_cast<double>(counts.training_only.multiplied) +
                                score_flops(model, sequence_length) + output});
  return terms;
}

double flops_per_token(const config::Model& model, int64_t sequence_length) {
  double forward = 0;
  for (const FlopTerm& term : forward_flops(model, sequence_length)) forward += term.flops;
  return 3 * forward;
}

double activation_bytes(const config::RunConfig& config, int ranks) {
  const config::Model& model = config.model();
  const double element = config.runtime().compute() == config::BF16   ? 2
                         : config.runtime().compute() == config::FP32 ? 4
                                                                      : 8;
  const double d = model.d_model(), length = config.data().sequence_length();
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
  const double sequences =
      double{1} * config.train().global_batch() / config.train().accumulation() / ranks;
  constexpr double kVocabularyRows = 256;  // see core/tensor/vocabulary_loss.cc
  return element * (sequences * length * (elements + 3 * d) + sequences * length * length) +
         (element + 4) * kVocabularyRows * model.vocab_size();
}

}  // namespace switchyard::models
