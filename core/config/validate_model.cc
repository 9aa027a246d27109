// Rules about the model, and products of sizes that must not overflow.

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>

#include "core/config/layers.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {

namespace {

constexpr double kParameterLimit = 9223372036854775808.0;  // 2^63

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
        "model.moe.first_layer ({}) must be below model.num_layers ({}), else no layer is "
        "MoE; lower it, or leave model.moe out for a dense model",
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

// The product, with both what it is for and its value in the message when it reaches the limit.
// Every factor is below 2^64, so a double cannot overflow; its 53 bits decide far from the limit.
struct Product {
  const char* path;  // the field to change
  const char* of;    // "num_layers * num_experts * 3 * d_model * d_ff"
  double limit;
  std::initializer_list<int64_t> factors;
};

void check_product(const Product& product, Findings& findings) {
  double value = 1;
  for (const int64_t factor : product.factors) {
    if (factor < 1) return;  // not in this model, or a range rule has reported it
    value *= static_cast<double>(factor);
  }
  if (value >= product.limit)
    findings.add("{} is too large: {} = {:.6g} must be below {:.6g}; lower one of them",
                 product.path, product.of, value, product.limit);
}

// All parameters, four values each, must be countable in bytes: hence a 64th of 2^63.
constexpr double kCountLimit = kParameterLimit / 64;

void check_parameter_counts(const Model& model, Findings& findings) {
  const Attention& attention = model.attention();
  const double limit = kCountLimit;
  check_product(
      {"model.vocab_size", "vocab_size * d_model", limit, {model.vocab_size(), model.d_model()}},
      findings);
  check_product(
      {"model.attention",
       "num_layers * 4 * d_model * num_heads * head_dim",
       limit,
       {model.num_layers(), 4, model.d_model(), attention.num_heads(), attention.head_dim()}},
      findings);
  check_product({"model.attention.max_positions",
                 "max_positions * d_model",
                 limit,
                 {attention.max_positions(), model.d_model()}},
                findings);
  const Latent& latent = attention.latent();
  check_product({"model.attention.latent",
                 "num_layers * 2 * kv_rank * num_heads * (nope_dim + value_dim)",
                 limit,
                 {model.num_layers(), 2, latent.kv_rank(), attention.num_heads(),
                  int64_t{latent.nope_dim()} + latent.value_dim()}},
                findings);
  check_product({"model.attention.latent.q_rank",
                 "num_layers * q_rank * (d_model + num_heads * head_dim)",
                 limit,
                 {model.num_layers(), latent.q_rank(),
                  model.d_model() + int64_t{attention.num_heads()} * attention.head_dim()}},
                findings);
  check_product({"model.d_ff",
                 "num_layers * 3 * d_model * d_ff",
                 limit,
                 {model.num_layers(), 3, model.d_model(), model.d_ff()}},
                findings);
  // Its layer is one more of those above.
  check_product({"model.mtp",
                 "2 * d_model * d_model",
                 limit,
                 {model.has_mtp(), 2, model.d_model(), model.d_model()}},
                findings);
}

void check_expert_counts(const Model& model, Findings& findings) {
  const Moe& moe = model.moe();
  const Attention& attention = model.attention();
  const double limit = kCountLimit;
  check_product({"model.moe",
                 "num_layers * num_experts * 3 * d_model * d_ff",
                 limit,
                 {model.num_layers(), moe.num_experts(), 3, model.d_model(), moe.d_ff()}},
                findings);
  check_product({"model.moe.shared_expert",
                 "num_layers * 3 * d_model * count * d_ff",
                 limit,
                 {model.num_layers(), 3, model.d_model(), moe.shared_expert().count(),
                  moe.shared_expert().d_ff()}},
                findings);
  check_product({"model.moe.hidden_layers",
                 "num_layers * num_experts * (hidden_layers - 1) * d_ff * d_ff",
                 limit,
                 {model.num_layers(), moe.num_experts(), int64_t{moe.hidden_layers()} - 1,
                  moe.d_ff(), moe.d_ff()}},
                findings);
  check_product({"model.attention.switch_projections",
                 "num_layers * num_experts * 3 * d_model * num_heads * head_dim",
                 limit,
                 {attention.switch_projections(), model.num_layers(), moe.num_experts(), 3,
                  model.d_model(), attention.num_heads(), attention.head_dim()}},
                findings);
}

// Of the architectures before the transformer.
void check_early_counts(const Model& model, Findings& findings) {
  const double limit = kCountLimit;
  // Four gates from the input and four from the last output, and the projection.
  check_product({"model.lstm.hidden",
                 "num_layers * 9 * hidden * d_model",
                 limit,
                 {model.num_layers(), 9, model.lstm().hidden(), model.d_model()}},
                findings);
  const LocalExperts& experts = model.local_experts();
  const int64_t outer = int64_t{model.d_model()} + model.vocab_size();
  check_product({"model.local_experts",
                 "num_experts * hidden_units * (d_model + vocab_size)",
                 limit,
                 {experts.num_experts(), experts.hidden_units(), outer}},
                findings);
  check_product({"model.local_experts.num_experts",
                 "num_experts * d_model * vocab_size",
                 limit,
                 {experts.num_experts(), model.d_model(), model.vocab_size()}},
                findings);
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
  constexpr double kIndexLimit = 2147483648.0;  // 2^31: rows and widths are 32-bit
  const Model& model = config.model();
  const Train& train = config.train();
  const Attention& attention = model.attention();
  const SharedExpert& shared = model.moe().shared_expert();
  const int sequences = train.accumulation() > 0 ? train.global_batch() / train.accumulation() : 0;
  const int sequence_length = config.data().sequence_length();
  const int slots = model.has_moe() ? model.moe().top_k() : 1;
  check_product({"train.global_batch",
                 "global_batch / accumulation * sequence_length * top_k",
                 kIndexLimit,
                 {sequences, sequence_length, slots}},
                findings);
  check_product({"train.steps",
                 "steps * global_batch * sequence_length",
                 kParameterLimit,
                 {train.steps(), train.global_batch(), sequence_length}},
                findings);
  if (attention.position() == LEARNED_POSITIONS && sequence_length > attention.max_positions())
    findings.add(
        "data.sequence_length ({}) must be at most model.attention.max_positions ({}), the table's "
        "rows; lower it or raise that",
        sequence_length, attention.max_positions());
  check_product({"model.attention",
                 "num_heads * head_dim",
                 kIndexLimit,
                 {attention.num_heads(), attention.head_dim()}},
                findings);
  check_product(
      {"model.moe.shared_expert", "count * d_ff", kIndexLimit, {shared.count(), shared.d_ff()}},
      findings);
  check_product({"model.lstm.hidden", "4 * hidden", kIndexLimit, {4, model.lstm().hidden()}},
                findings);
  check_parameter_counts(model, findings);
  check_expert_counts(model, findings);
  check_early_counts(model, findings);
}

}  // namespace switchyard::config
