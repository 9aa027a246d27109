#include "models/cost.h"

#include <initializer_list>

#include "core/base/errors.h"
#include "core/config/layers.h"

namespace switchyard::models {

namespace {

// Validation keeps these below 2^63; the check is for configs that went around it.
int64_t product(std::initializer_list<int64_t> factors) {
  int64_t value = 1;
  for (const int64_t factor : factors)
    SY_CHECK(!__builtin_mul_overflow(value, factor, &value), "a parameter count exceeds 2^63");
  return value;
}

// Widths and counts under one letter each, as in core/shapes.h.
struct Sizes {
  int64_t layers, moe_layers, dense_layers;
  int64_t D, V, H, KV, d;     // d: head_dim
  int64_t E, K, F;            // routed experts
  int64_t F_shared, F_dense;  // 0: none
};

Sizes sizes_of(const config::Model& model) {
  const config::Moe& moe = model.moe();
  const config::Attention& attention = model.attention();
  Sizes sizes{};
  sizes.layers = model.num_layers();
  sizes.moe_layers = config::num_moe_layers(model);
  sizes.dense_layers = sizes.layers - sizes.moe_layers;
  sizes.D = model.d_model();
  sizes.V = model.vocab_size();
  sizes.H = attention.num_heads();
  sizes.KV = attention.num_kv_heads();
  sizes.d = attention.head_dim();
  sizes.E = moe.num_experts();
  sizes.K = moe.top_k();
  sizes.F = moe.d_ff();
  sizes.F_shared = product({moe.shared_expert().count(), moe.shared_expert().d_ff()});
  sizes.F_dense = model.d_ff();
  return sizes;
}

}  // namespace

Census census(const config::Model& model) {
  const Sizes s = sizes_of(model);
  Census result;
  const auto add = [&](const char* name, int64_t total, int64_t active) {
    if (total == 0) return;
    result.components.push_back({name, total, active});
    result.total += total;
    result.active += active;
  };
  const auto add_all_active = [&](const char* name, int64_t total) { add(name, total, total); };
  const int64_t expert = product({3, s.D, s.F});
  add_all_active("embedding", product({s.V, s.D}));
  add_all_active("attention", product({s.layers, 2, s.D, s.d, s.H + s.KV}));
  add_all_active("router", product({s.moe_layers, s.D, s.E}));
  add("experts", product({s.moe_layers, s.E, expert}), product({s.moe_layers, s.K, expert}));
  add_all_active("shared_expert", product({s.moe_layers, 3, s.D, s.F_shared}));
  add_all_active("dense_ffn", product({s.dense_layers, 3, s.D, s.F_dense}));
  add_all_active("norms", product({2 * s.layers + 1, s.D}));
  add_all_active("output", model.tie_embeddings() ? 0 : product({s.V, s.D}));
  return result;
}

std::vector<FlopTerm> forward_flops(const config::Model& model, int64_t sequence_length) {
  const Sizes s = sizes_of(model);
  std::vector<FlopTerm> terms;
  // In double: a long sequence times a large model leaves 64 bits.
  const auto add = [&](const char* name, std::initializer_list<int64_t> factors) {
    double flops = 1;
    for (const int64_t factor : factors) flops *= static_cast<double>(factor);
    if (flops > 0) terms.push_back({name, flops});
  };
  add("attention_projections", {s.layers, 2, s.D, s.d, 2 * s.H + 2 * s.KV});
  add("attention_scores", {s.layers, 2, sequence_length, s.H, s.d});
  add("router", {s.moe_layers, 2, s.D, s.E});
  add("experts", {s.moe_layers, 6, s.D, s.F, s.K});
  add("shared_expert", {s.moe_layers, 6, s.D, s.F_shared});
  add("dense_ffn", {s.dense_layers, 6, s.D, s.F_dense});
  add("output", {2, s.D, s.V});
  return terms;
}

double flops_per_token(const config::Model& model, int64_t sequence_length) {
  double forward = 0;
  for (const FlopTerm& term : forward_flops(model, sequence_length)) forward += term.flops;
  return 3 * forward;
}

Memory memory_per_rank(const config::Model& model, config::ComputeType compute, int expert_degree) {
  int64_t parameters = 0;
  for (const Component& component : census(model).components)
    parameters += component.name == "experts" ? component.total / expert_degree : component.total;
  const int64_t value = compute == config::BF16 ? 2 : compute == config::FP32 ? 4 : 8;
  const int64_t wide = compute == config::FP64 ? 8 : 4;  // gradients and each moment
  const int64_t master = compute == config::BF16 ? 4 : 0;
  return {parameters, product({parameters, value}), product({parameters, master}),
          product({parameters, wide}), product({parameters, 2, wide})};
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
  double elements = 0;
  for (int layer = 0; layer < model.num_layers(); ++layer) {
    elements += attention + 2 * d;  // the second norm's input and output
    if (config::is_moe_layer(model, layer)) {
      const double k = model.moe().top_k(), shared = double{1} *
                                                     model.moe().shared_expert().count() *
                                                     model.moe().shared_expert().d_ff();
      // Dispatched rows, both halves of the hidden layer, rows come home, output; the router's
      // float32 input.
      elements += k * (2 * d + 2 * model.moe().d_ff()) + d + (shared > 0 ? d + 2 * shared : 0) +
                  4 * d / element;
    } else {
      elements += 2.0 * model.d_ff() + d;
    }
  }
  const double sequences =
      double{1} * config.train().global_batch() / config.train().accumulation() / ranks;
  constexpr double kVocabularyRows = 256;  // see core/tensor/vocabulary_loss.cc
  return element * (sequences * length * (elements + 3 * d) + sequences * length * length) +
         (element + 4) * kVocabularyRows * model.vocab_size();
}

}  // namespace switchyard::models
