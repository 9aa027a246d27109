// Rules about the model, and products of sizes that must not overflow.

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/config/layers.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

constexpr double kInt64Limit = 9223372036854775808.0;  // 2^63
// All parameters, four values each, must be countable in bytes.
constexpr double kCountLimit = kInt64Limit / 64;
constexpr double kIndexLimit = 2147483648.0;  // 2^31: rows and widths are 32-bit

void check_layers(const Model& model, Findings& findings) {
  const Moe& moe = model.moe();
  if (model.num_layers() < 1 || moe.first_layer() < 0 ||
      (model.has_moe() && moe.every_n_layers() < 1))
    return;
  if (model.has_ffn_dropout() && !has_dense_ffn(model))
    findings.add(
        "model.ffn_dropout ({}) must not be set where no layer has a dense FFN; leave it out, or "
        "use model.moe.expert_dropout for the experts'",
        model.ffn_dropout());
  if (model.has_moe() && moe.first_layer() >= model.num_layers())
    findings.add(
        "model.moe.first_layer ({}) must be below model.num_layers ({}), else no layer is MoE; "
        "lower it, or leave model.moe out for a dense model",
        moe.first_layer(), model.num_layers());
  if (!has_dense_ffn(model) || !model.has_d_ff() || model.d_ff() != 0) return;
  const int all_layers = num_stacks(model) * num_stack_layers(model);
  const int dense_layers = all_layers - num_moe_layers(model);
  if (dense_layers > 0)
    findings.add("model.d_ff (0) must be at least 1, as {} of {} layers are dense; set their width",
                 dense_layers, all_layers);
  else
    findings.add(
        "model.d_ff (0) must be at least 1, as model.moe.stacking puts a dense FFN beside each MoE "
        "sub-layer; set its width, or stacking: NO_STACKING");
}

// Reports a product of sizes, "num_layers * d_model * d_ff", that is not below the limit, by the
// field to change. Every factor is below 2^64, so a double cannot overflow; its 53 bits decide far
// from the limit.
auto products_below(double limit, Findings& findings) {
  return [=, &findings](const char* path, const char* of, std::initializer_list<int64_t> factors) {
    // A factor below 1 is not in this model, or a range rule has reported it.
    if (std::ranges::min(factors) < 1) return;
    double value = 1;
    for (const int64_t factor : factors) value *= static_cast<double>(factor);
    if (value >= limit)
      findings.add("{} is too large: {} = {:.6g} must be below {:.6g}; lower one of them", path, of,
                   value, limit);
  };
}

void check_parameter_counts(const Model& model, Findings& findings) {
  const Attention& attention = model.attention();
  const Latent& latent = attention.latent();
  const int64_t layers = model.num_layers(), d_model = model.d_model();
  const int64_t heads = attention.num_heads(), head_dim = attention.head_dim();
  const auto check = products_below(kCountLimit, findings);
  check("model.vocab_size", "vocab_size * d_model", {model.vocab_size(), d_model});
  check("model.attention", "num_layers * 4 * d_model * num_heads * head_dim",
        {layers, 4, d_model, heads, head_dim});
  check("model.attention.max_positions", "max_positions * d_model",
        {attention.max_positions(), d_model});
  check("model.attention.latent", "num_layers * 2 * kv_rank * num_heads * (nope_dim + value_dim)",
        {layers, 2, latent.kv_rank(), heads, int64_t{latent.nope_dim()} + latent.value_dim()});
  check("model.attention.latent.q_rank", "num_layers * q_rank * (d_model + num_heads * head_dim)",
        {layers, latent.q_rank(), d_model + heads * head_dim});
  check("model.d_ff", "num_layers * 3 * d_model * d_ff", {layers, 3, d_model, model.d_ff()});
  // Its layer is one more of those above.
  check("model.mtp", "2 * d_model * d_model", {model.has_mtp(), 2, d_model, d_model});
}

void check_expert_counts(const Model& model, Findings& findings) {
  const Moe& moe = model.moe();
  const Attention& attention = model.attention();
  const SharedExpert& shared = moe.shared_expert();
  const int64_t layers = model.num_layers(), d_model = model.d_model(), d_ff = moe.d_ff();
  const int64_t experts = moe.num_experts();
  const auto check = products_below(kCountLimit, findings);
  check("model.moe", "num_layers * num_experts * 3 * d_model * d_ff",
        {layers, experts, 3, d_model, d_ff});
  check("model.moe.shared_expert", "num_layers * 3 * d_model * count * d_ff",
        {layers, 3, d_model, shared.count(), shared.d_ff()});
  check("model.moe.hidden_layers", "num_layers * num_experts * (hidden_layers - 1) * d_ff * d_ff",
        {layers, experts, int64_t{moe.hidden_layers()} - 1, d_ff, d_ff});
  check("model.attention.switch_projections",
        "num_layers * num_experts * 3 * d_model * num_heads * head_dim",
        {attention.switch_projections(), layers, experts, 3, d_model, attention.num_heads(),
         attention.head_dim()});
}

// The parameters of the architectures before the transformer.
void check_early_counts(const Model& model, Findings& findings) {
  const LocalExperts& local = model.local_experts();
  const int64_t d_model = model.d_model(), classes = model.vocab_size();
  const auto check = products_below(kCountLimit, findings);
  // Four gates from the input and four from the last output, and the projection.
  check("model.lstm.hidden", "num_layers * 9 * hidden * d_model",
        {model.num_layers(), 9, model.lstm().hidden(), d_model});
  check("model.local_experts", "num_experts * hidden_units * (d_model + vocab_size)",
        {local.num_experts(), local.hidden_units(), d_model + classes});
  check("model.local_experts.num_experts", "num_experts * d_model * vocab_size",
        {local.num_experts(), d_model, classes});
}

}  // namespace

void check_model(const Model& model, Findings& findings) {
  check_attention(model, findings);
  check_layers(model, findings);
  if (model.has_moe()) check_routing(model.moe(), findings);
  if (model.lstm().sampled_softmax() >= model.vocab_size() && model.vocab_size() > 0)
    findings.add(
        "model.lstm.sampled_softmax ({}) must be below model.vocab_size ({}), else the whole "
        "vocabulary is cheaper; lower it or set 0",
        model.lstm().sampled_softmax(), model.vocab_size());
}

void check_sizes(const RunConfig& config, Findings& findings) {
  const Model& model = config.model();
  const Train& train = config.train();
  const Attention& attention = model.attention();
  const SharedExpert& shared = model.moe().shared_expert();
  const int sequences = train.accumulation() > 0 ? train.global_batch() / train.accumulation() : 0;
  const int sequence_length = config.data().sequence_length();
  const int slots = model.has_moe() ? model.moe().top_k() : 1;
  const auto check = products_below(kIndexLimit, findings);
  check("train.global_batch", "global_batch / accumulation * sequence_length * top_k",
        {sequences, sequence_length, slots});
  check("model.attention", "num_heads * head_dim", {attention.num_heads(), attention.head_dim()});
  check("model.moe.shared_expert", "count * d_ff", {shared.count(), shared.d_ff()});
  check("model.lstm.hidden", "4 * hidden", {4, model.lstm().hidden()});
  products_below(kInt64Limit, findings)("train.steps", "steps * global_batch * sequence_length",
                                        {train.steps(), train.global_batch(), sequence_length});
  if (attention.position() == LEARNED_POSITIONS && sequence_length > attention.max_positions())
    findings.add(
        "data.sequence_length ({}) must be at most model.attention.max_positions ({}), the table's "
        "rows; lower it or raise that",
        sequence_length, attention.max_positions());
  check_parameter_counts(model, findings);
  check_expert_counts(model, findings);
  check_early_counts(model, findings);
}

}  // namespace switchyard::config
