#pragma once
// What references for whole models are made of: published formulas, one token at a time, in
// float64. They share no code with the models and read the models' weights by name.

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/model.h"
#include "parallel/mesh.h"
#include "parallel/single.h"

namespace switchyard::models::oracle {

using Rows = std::vector<at::Tensor>;  // one vector for each token of one text

// A model's weights; weights / "layers.0" knows them by what follows that name.
class Weights {
 public:
  explicit Weights(const ParameterTable& table, std::string scope = "")
      : table_(&table), scope_(std::move(scope)) {}

  Weights operator/(const std::string& name) const { return Weights(*table_, scope_ + name + "."); }
  bool has(const std::string& name) const { return find(name) != nullptr; }
  const at::Tensor& operator[](const std::string& name) const {
    const Parameter* parameter = find(name);
    SY_CHECK(parameter, "no parameter {}{}", scope_, name);
    return parameter->master;
  }

 private:
  const Parameter* find(const std::string& name) const {
    for (const Parameter& parameter : table_->parameters())
      if (parameter.name == scope_ + name) return &parameter;
    return nullptr;
  }

  const ParameterTable* table_;
  std::string scope_;
};

// Weights at which all parts of a model show: vectors away from the 1 and 0 where they start and
// could be forgotten, matrices that saturate nothing.
inline void fill(ParameterTable& table) {
  at::manual_seed(11);
  for (Parameter& parameter : table.parameters()) {
    if (parameter.shape.size() == 1)
      parameter.master.uniform_(0.3, 1.7);
    else
      parameter.master.normal_(0, 0.3);
  }
}

// A model in float64 at such weights.
struct Instance {
  explicit Instance(const config::Model& config)
      : world(parallel::make_single()),
        mesh(*world, MeshShape()),
        model(Scope(table), config, mesh) {
    table.allocate(at::kDouble);
    fill(table);
  }
  // -log p(target) of each token in evaluation, [B S].
  at::Tensor losses(const TokenBatch& batch) const {
    StepContext context;
    context.group_tokens = batch.tokens_BS.size(1);
    return model.losses(batch, context);
  }
  // In evaluation, after so many layers, [B S, D].
  at::Tensor hidden_states(const TokenBatch& batch, int64_t layers) const {
    const at::NoGradGuard no_grad;
    StepContext context;
    context.group_tokens = batch.tokens_BS.size(1);
    const TextModel& text = model.text();
    const Pass pass = text.begin(batch, context, /*recompute=*/false);
    return text.run({0, layers}, text.embed(pass), pass);
  }

  std::unique_ptr<parallel::Communicator> world;
  parallel::Mesh mesh;
  ParameterTable table;
  Model model;
};

inline double sum_of(const at::Tensor& x) { return x.sum().item<double>(); }

// Logits [V] of each position of a text -> logarithms of probabilities [S, V].
inline at::Tensor log_probabilities(const Rows& logits) {
  Rows rows;
  for (const at::Tensor& row : logits) rows.push_back(row - std::log(sum_of(row.exp())));
  return at::stack(rows);
}

// The same of all words at all positions, [T, V], as a model sees them: by the loss of each word as
// the target. losses: batch -> -log p(target) [B, S].
template <typename F>
at::Tensor log_probabilities_by_loss(TokenBatch batch, int64_t vocabulary, F&& losses) {
  Rows words;
  for (int64_t word = 0; word < vocabulary; ++word) {
    batch.targets_BS = at::full_like(batch.tokens_BS, word);
    words.push_back(-losses(batch).flatten());
  }
  return at::stack(words, 1);
}

inline at::Tensor rms_norm(const at::Tensor& x_D, const at::Tensor& weight_D, double eps) {
  const double mean_square = sum_of(x_D * x_D) / static_cast<double>(x_D.numel());
  return x_D * weight_D / std::sqrt(mean_square + eps);
}

inline at::Tensor sigmoid(const at::Tensor& x) { return 1 / (1 + (-x).exp()); }

using Activation = at::Tensor (*)(const at::Tensor&);
inline at::Tensor relu(const at::Tensor& x) { return (x + x.abs()) / 2; }
inline at::Tensor silu(const at::Tensor& x) { return x * oracle::sigmoid(x); }
inline at::Tensor gelu_tanh(const at::Tensor& x) {
  const double root = std::sqrt(2 / std::acos(-1.0));
  return x / 2 * (1 + (root * (x + 0.044715 * x * x * x)).tanh());
}

// w2 act(w1 x), or w2 (act(w1 x) * (w3 x)) if `first` has the rows of w3 below those of w1.
inline at::Tensor ffn(const at::Tensor& x_D, const at::Tensor& first, const at::Tensor& w2_DF,
                      Activation activation) {
  const int64_t hidden = w2_DF.size(1);
  const at::Tensor product = at::mv(first, x_D);
  at::Tensor h_F = activation(product.narrow(0, 0, hidden));
  if (product.numel() > hidden) h_F = h_F * product.narrow(0, hidden, hidden);
  return at::mv(w2_DF, h_F);
}
inline const at::Tensor& first_matrix(const Weights& w) { return w[w.has("w13") ? "w13" : "w1"]; }
inline at::Tensor dense_ffn(const at::Tensor& x_D, const Weights& w, Activation activation) {
  return ffn(x_D, first_matrix(w), w["w2"], activation);
}

// The experts of the top_k greatest logits, each times its softmax, which is taken over all experts
// or over the chosen ones alone.
struct MoeRule {
  int64_t top_k = 1;
  bool over_chosen = false;
  Activation activation = relu;
};
inline at::Tensor moe(const at::Tensor& x_D, const Weights& w, const MoeRule& rule) {
  const at::Tensor share_E = at::mv(w["router.weight"], x_D).exp();
  const auto share = [&](int64_t expert) { return share_E[expert].item<double>(); };
  std::vector<int64_t> chosen(share_E.numel());
  std::iota(chosen.begin(), chosen.end(), 0);
  std::ranges::sort(chosen, std::greater{}, share);
  chosen.resize(rule.top_k);
  double total = rule.over_chosen ? 0 : sum_of(share_E);
  if (rule.over_chosen)
    for (const int64_t expert : chosen) total += share(expert);
  const Weights experts = w / "experts";
  at::Tensor y_D = at::zeros_like(x_D);
  for (const int64_t e : chosen) {
    y_D = y_D +
          share(e) / total * ffn(x_D, first_matrix(experts)[e], experts["w2"][e], rule.activation);
  }
  return y_D;
}

// One position's query [H d] over the keys and values [KV d] that it sees: heads / kv_heads
// neighbouring query heads to each key head. score: (q . k, head, number of the key) -> exponent.
struct Heads {
  int64_t heads, kv_heads, width;
};
using Score = std::function<double(double, int64_t, int64_t)>;
inline at::Tensor attend(const at::Tensor& query, const Rows& keys, const Rows& values,
                         const Heads& sizes, const Score& score) {
  Rows outputs;
  for (int64_t head = 0; head < sizes.heads; ++head) {
    const int64_t width = sizes.width, kv = head * sizes.kv_heads / sizes.heads * width;
    const at::Tensor q_d = query.narrow(0, head * width, width);
    double total = 0;
    at::Tensor y_d = at::zeros_like(q_d);
    for (size_t j = 0; j < keys.size(); ++j) {
      const double product = sum_of(q_d * keys[j].narrow(0, kv, width));
      const double weight = std::exp(score(product, head, static_cast<int64_t>(j)));
      total += weight;
      y_d = y_d + weight * values[j].narrow(0, kv, width);
    }
    outputs.push_back(y_d / total);
  }
  return at::concat(outputs);
}

inline Rows first(const Rows& rows, size_t count) { return {rows.begin(), rows.begin() + count}; }

inline Rows sum(const Rows& a, const Rows& b) {
  Rows rows;
  for (size_t t = 0; t < a.size(); ++t) rows.push_back(a[t] + b[t]);
  return rows;
}

template <typename F>
Rows each(const Rows& rows, F&& f) {
  Rows results;
  for (const at::Tensor& row : rows) results.push_back(f(row));
  return results;
}

// One text's rows of the embedding.
inline Rows looked_up(const at::Tensor& tokens_S, const at::Tensor& embedding_VD) {
  Rows rows;
  for (int64_t t = 0; t < tokens_S.numel(); ++t)
    rows.push_back(embedding_VD[tokens_S[t].item<int64_t>()]);
  return rows;
}

}  // namespace switchyard::models::oracle
