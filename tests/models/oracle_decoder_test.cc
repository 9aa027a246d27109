// Whole decoders against their published formulas, token by token: Grok-1 as xai-org/grok-1's
// model.py has it, and a dense FFN before or after each mixture (ST-MoE, Zoph et al., 2022).

#include <gtest/gtest.h>

#include "tests/models/decoder_fixture.h"
#include "tests/models/oracle.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using oracle::Rows;
using oracle::Weights;
using switchyard::testing::is_near;

constexpr oracle::Heads kHeads{4, 2, 4};
constexpr double kEps = 1e-5, kTheta = 10000;

// What the published models differ in.
struct Formula {
  double embedding_scale = 1, output_scale = 1;
  double score_cap = 0;            // 0: none
  bool sandwich = false;           // norms on what sub-layers give, too
  bool learned_positions = false;  // a vector for each position in place of turned channels
  enum Dense { kNone, kBefore, kAfter } dense = kNone;
  oracle::MoeRule moe;
};

// Each head's channels c and c + width / 2 turn as a pair, by an angle whose sine and cosine the
// model rounds to float32.
at::Tensor turned(const at::Tensor& x, size_t position) {
  const int64_t half = kHeads.width / 2;
  const auto rounded = [](double value) { return static_cast<double>(static_cast<float>(value)); };
  at::Tensor y = at::zeros_like(x);
  for (int64_t first = 0; first < x.numel(); first += kHeads.width) {
    for (int64_t c = 0; c < half; ++c) {
      const double speed = std::pow(kTheta, -static_cast<double>(c) / static_cast<double>(half));
      const double angle = static_cast<double>(position) * speed;
      const double cosine = rounded(std::cos(angle)), sine = rounded(std::sin(angle));
      const at::Tensor a = x[first + c], b = x[first + c + half];
      y[first + c] = a * cosine - b * sine;
      y[first + c + half] = b * cosine + a * sine;
    }
  }
  return y;
}

class Reference {
 public:
  Reference(const Formula& formula, const Weights& weights) : formula_(formula), w_(weights) {}

  Rows logits_of_text(const at::Tensor& tokens_S, int64_t layers) const {
    return oracle::each(hidden(tokens_S, layers), [&](const at::Tensor& x_D) {
      const at::Tensor normed = oracle::rms_norm(x_D, w_["final_norm"], kEps);
      return at::mv(w_["embedding"], normed) * formula_.output_scale;
    });
  }

  // After so many layers.
  Rows hidden(const at::Tensor& tokens_S, int64_t layers) const {
    Rows x = oracle::each(oracle::looked_up(tokens_S, w_["embedding"]),
                          [&](const at::Tensor& e) { return e * formula_.embedding_scale; });
    if (formula_.learned_positions) {
      for (size_t t = 0; t < x.size(); ++t)
        x[t] = x[t] + w_["position_embedding"][static_cast<int64_t>(t)];
    }
    for (int64_t i = 0; i < layers; ++i) x = layer(x, w_ / "layers" / std::to_string(i));
    return x;
  }

 private:
  Rows layer(const Rows& x, const Weights& w) const {
    const auto attend = [&](const Rows& rows) { return attention(rows, w / "attention"); };
    const auto mix = [&](const Rows& rows) {
      return oracle::each(
          rows, [&](const at::Tensor& row) { return oracle::moe(row, w / "moe", formula_.moe); });
    };
    const auto extra = [&](const Rows& rows) {
      return oracle::each(rows, [&](const at::Tensor& row) {
        return oracle::dense_ffn(row, w / "extra_ffn", oracle::gelu_tanh);
      });
    };
    Rows h = sub_layer(x, w, "attention", attend);
    if (formula_.dense == Formula::kBefore) h = sub_layer(h, w, "extra_ffn", extra);
    h = sub_layer(h, w, "ffn", mix);
    if (formula_.dense == Formula::kAfter) h = sub_layer(h, w, "extra_ffn", extra);
    return h;
  }

  template <typename F>
  Rows sub_layer(const Rows& x, const Weights& w, const std::string& name, F&& f) const {
    const auto norm = [&](const Rows& rows, const std::string& weight) {
      return oracle::each(
          rows, [&](const at::Tensor& row) { return oracle::rms_norm(row, w[weight], kEps); });
    };
    const Rows y = f(norm(x, name + "_norm"));
    return oracle::sum(x, formula_.sandwich ? norm(y, name + "_out_norm") : y);
  }

  at::Tensor placed(const at::Tensor& x, size_t position) const {
    return formula_.learned_positions ? x : turned(x, position);
  }

  Rows attention(const Rows& x, const Weights& w) const {
    const int64_t queries = kHeads.heads * kHeads.width, keys = kHeads.kv_heads * kHeads.width;
    const auto score = [&](double product, int64_t, int64_t) {
      const double scaled = product / std::sqrt(static_cast<double>(kHeads.width));
      const double cap = formula_.score_cap;
      return cap > 0 ? cap * std::tanh(scaled / cap) : scaled;
    };
    Rows seen_keys, seen_values;
    return oracle::each(x, [&](const at::Tensor& row) {
      const at::Tensor all = at::mv(w["qkv"], row);
      const size_t position = seen_keys.size();
      seen_keys.push_back(placed(all.narrow(0, queries, keys), position));
      seen_values.push_back(all.narrow(0, queries + keys, keys));
      const at::Tensor query = placed(all.narrow(0, 0, queries), position);
      return at::mv(w["out"], oracle::attend(query, seen_keys, seen_values, kHeads, score));
    });
  }

  Formula formula_;
  Weights w_;
};

struct Case {
  const char *name, *attention, *rest;
  Formula formula;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class DecoderOracle : public ::testing::TestWithParam<Case> {
 protected:
  DecoderOracle()
      : model_(model_of(std::string("attention { num_heads: 4 num_kv_heads: 2 ") +
                        GetParam().attention + " } " + GetParam().rest)),
        instance_(model_),
        reference_(GetParam().formula, Weights(instance_.table)) {
    oracle::fill(instance_.table);
  }
  Rows expected(const at::Tensor& tokens_S) const {
    return reference_.logits_of_text(tokens_S, model_.num_layers());
  }

  config::Model model_;
  DecoderInstance instance_;
  Reference reference_;
};

TEST_P(DecoderOracle, GivesTheProbabilitiesOfItsFormulaTokenByToken) {
  const TokenBatch tokens = batch();
  const at::Tensor actual = oracle::log_probabilities_by_loss(
      tokens, kVocab, [&](const TokenBatch& b) { return instance_.losses(b, false); });
  std::vector<at::Tensor> rows;
  for (int64_t row = 0; row < kRows; ++row)
    rows.push_back(oracle::log_probabilities(expected(tokens.tokens_BS[row])));
  EXPECT_TRUE(is_near(actual, at::concat(rows), 1e-10));
}

TEST_P(DecoderOracle, HasTheHiddenStatesOfItsFormulaAfterEveryLayer) {
  const TokenBatch tokens = batch();
  for (int64_t layers = 0; layers <= model_.num_layers(); ++layers) {
    std::vector<at::Tensor> rows;
    for (int64_t row = 0; row < kRows; ++row)
      rows.push_back(at::stack(reference_.hidden(tokens.tokens_BS[row], layers)));
    EXPECT_TRUE(is_near(instance_.hidden_states(tokens, layers), at::concat(rows), 1e-10))
        << layers;
  }
}

TEST_P(DecoderOracle, GeneratesByTheSameLogits) {
  const at::Tensor tokens = batch().tokens_BS.slice(0, 0, 1);
  const Rows rows = expected(tokens[0]);
  TextState state;
  for (int64_t t = 0; t < kLength; ++t) {
    const at::Tensor logits = instance_.next_logits(tokens.slice(1, t, t + 1), state);
    EXPECT_TRUE(is_near(logits[0], rows[t], 1e-6)) << t;  // which are float32
  }
}

// The cap is low enough to bend most scores.
const Case kGrok{"Grok",
                 "logit_cap: 2",
                 "sandwich_norm: true embedding_scale: 4 output_scale: 0.6 ffn: GEGLU_TANH "
                 "moe { num_experts: 4 d_ff: 24 router { weighting: RAW } }",
                 {4, 0.6, 2, true, false, Formula::kNone, {2, false, oracle::gelu_tanh}}};
const Case kDenseBefore{"DenseBefore",
                        "",
                        "ffn: GEGLU_TANH d_ff: 20 "
                        "moe { num_experts: 4 d_ff: 24 ffn: RELU stacking: DENSE_BEFORE }",
                        {1, 1, 0, false, false, Formula::kBefore, {2, true, oracle::relu}}};
const Case kDenseAfter{"DenseAfter",
                       "",
                       "ffn: GEGLU_TANH d_ff: 20 "
                       "moe { num_experts: 4 d_ff: 24 ffn: RELU stacking: DENSE_AFTER }",
                       {1, 1, 0, false, false, Formula::kAfter, {2, true, oracle::relu}}};
const Case kLearned{"LearnedPositions",
                    "position: LEARNED_POSITIONS",
                    "moe { num_experts: 4 d_ff: 24 ffn: RELU }",
                    {1, 1, 0, false, true, Formula::kNone, {2, true, oracle::relu}}};

INSTANTIATE_TEST_SUITE_P(Models, DecoderOracle,
                         ::testing::Values(kGrok, kDenseBefore, kDenseAfter, kLearned),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace switchyard::models
