#include "models/inspect/cost.h"

#include "core/config/layers.h"
#include "core/config/schedule.h"
#include "core/data/span_corruption.h"

namespace switchyard::models {
namespace {

// The positions that a token sees in a layer, on average over the sequence. In an encoder-decoder a
// source token sees all of the source, a target token that and half of the target.
double mean_visible(const config::Model& model, const SequenceLengths& lengths) {
  const auto length = static_cast<double>(lengths.sequence);
  const auto target = static_cast<double>(lengths.target);
  if (target > 0) return length + target + target * target / (2 * length);
  const double window = model.attention().sliding_window();
  return window > 0 && window < length ? window - window * window / (2 * length) : length / 2;
}

// One layer's operations for a token's scores; in double, as a long sequence times a large model
// leaves 64 bits.
double score_flops(const config::Model& model, const SequenceLengths& lengths) {
  const config::Attention& attention = model.attention();
  const int widths = attention.head_dim() + config::value_width(attention);
  return 2.0 * attention.num_heads() * widths * mean_visible(model, lengths);
}

std::vector<FlopTerm> terms_of(const config::Model& model, const SequenceLengths& lengths,
                               const Slice& held) {
  std::vector<FlopTerm> terms;
  const Census counts = census(model, held);
  const double target_share =
      static_cast<double>(lengths.target) / static_cast<double>(lengths.sequence);
  for (const Component& component : counts.components) {
    const double multiplied = static_cast<double>(component.multiplied) +
                              target_share * static_cast<double>(component.multiplied_by_target);
    if (multiplied == 0) continue;
    const bool is_attention = component.name == "attention";
    terms.push_back({is_attention ? "attention_projections" : component.name, 2.0 * multiplied});
    if (is_attention)
      terms.push_back(
          {"attention_scores", static_cast<double>(held.size()) * score_flops(model, lengths)});
  }
  const double output = 2.0 * model.d_model() * model.vocab_size();
  const bool has_head = held.end == model.num_layers();
  if (has_head && config::has_embedding(model) && model.tie_embeddings())
    terms.push_back({"output", lengths.target > 0 ? target_share * output : output});
  if (has_head && model.has_mtp())
    terms.push_back({"mtp", 2.0 * static_cast<double>(counts.training_only.multiplied) +
                                score_flops(model, lengths) + output});
  return terms;
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
  return terms_of(model, lengths, {0, model.num_layers()});
}

double forward_flops(const config::Model& model, const SequenceLengths& lengths,
                     const Slice& held) {
  double forward = 0;
  for (const FlopTerm& term : terms_of(model, lengths, held)) forward += term.flops;
  return forward;
}

double flops_per_token(const config::Model& model, const SequenceLengths& lengths) {
  return 3 * forward_flops(model, lengths, {0, model.num_layers()});
}

double estimated_seconds(const config::RunConfig& config, double product_rate) {
  constexpr double kShareReached = 0.5;
  const double again = config.train().recompute() == config::RECOMPUTE_LAYER ? 4.0 / 3 : 1;
  const SequenceLengths lengths = sequence_lengths(config);
  const double tokens =
      double{1} * config::sequences_left(config, {0, 0}) * config.data().sequence_length();
  return again * tokens * flops_per_token(config.model(), lengths) / (kShareReached * product_rate);
}

}  // namespace switchyard::models
