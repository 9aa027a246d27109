// T5 (Raffel et al., 2020) with the experts of Switch (Fedus et al., 2021) and the dense FFNs of
// ST-MoE (Zoph et al., 2022), against their formulas, token by token. Two layers in each stack:
// experts, then a dense FFN.

#include <gtest/gtest.h>

#include "core/config/reader.h"
#include "tests/models/oracle.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using oracle::Rows;
using oracle::Weights;
using switchyard::testing::is_near;

constexpr int64_t kRows = 2, kLayers = 2, kWidth = 12, kVocab = 24, kSource = 9, kTarget = 8;
constexpr int64_t kBuckets = 12, kMaxDistance = 10;
constexpr oracle::Heads kHeads{3, 3, 5};  // whose widths do not add up to the model's
constexpr double kEps = 1e-6;

struct Case {
  const char* name;
  const char* text;
  bool tied;
  enum Dense { kNone, kBefore, kAfter } extra;
  oracle::MoeRule moe;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

config::Model model_of(const std::string& text) {
  return config::load_config_text(
             "model { architecture: ENCODER_DECODER num_layers: 2 d_model: 12 d_ff: 14 "
             "vocab_size: 24 dropout: 0.1 ffn: RELU norm_eps: 1e-6 initializer: TRUNCATED_NORMAL "
             "attention { num_heads: 3 head_dim: 5 dropout: 0.1 "
             "relative_bias { num_buckets: 12 max_distance: 10 } } " +
                 text + " } data { synthetic {} } train { steps: 1 global_batch: 1 }",
             "oracle_encoder_decoder_test")
      .model();
}

using oracle::Instance;

// The second row's source ends early.
TokenBatch batch() {
  const auto tokens = [](int64_t length, int64_t seed) {
    return (at::arange(kRows * length, at::kLong) * 7 + seed)
        .remainder(kVocab)
        .view({kRows, length});
  };
  TokenBatch batch{tokens(kTarget, 3), {}, at::zeros({kRows, kTarget}, at::kInt)};
  batch.source_BM = tokens(kSource, 5);
  batch.source_counts_B = at::tensor({kSource, int64_t{6}}, at::kLong);
  return batch;
}

// Half of the buckets hold one distance each, the others reach kMaxDistance in equal factors.
int64_t bucket(int64_t distance, int64_t buckets) {
  const int64_t exact = buckets / 2;
  if (distance < exact) return distance;
  const double factor = std::pow(static_cast<double>(kMaxDistance) / static_cast<double>(exact),
                                 1 / static_cast<double>(buckets - exact));
  int64_t number = exact;
  double next = static_cast<double>(exact) * factor;
  for (; static_cast<double>(distance) >= next && number < buckets - 1; ++number) next *= factor;
  return number;
}

class Reference {
 public:
  Reference(const Case& formula, const Weights& weights) : formula_(formula), w_(weights) {}

  Rows encode(const at::Tensor& source_M) const {
    const Weights stack = w_ / "encoder";
    const auto bias = [&](int64_t head, int64_t query, int64_t key) {
      const int64_t side = kBuckets / 2;  // the upper half is for what comes later
      const int64_t row =
          key > query ? side + bucket(key - query, side) : bucket(query - key, side);
      return stack["relative_bias"][row][head].item<double>();
    };
    Rows x = oracle::looked_up(source_M, w_["embedding"]);
    for (int64_t i = 0; i < kLayers; ++i) {
      const Weights w = stack / "layers" / std::to_string(i);
      x = self_attention(x, w, bias, false);
      x = feed_forward(x, w, i == 0);
    }
    return norm(x, stack["final_norm"]);
  }

  Rows logits_of_text(const at::Tensor& source_M, const at::Tensor& tokens_S) const {
    const at::Tensor output =
        formula_.tied ? w_["embedding"] / std::sqrt(static_cast<double>(kWidth)) : w_["output"];
    return times(output, norm(hidden(source_M, tokens_S, kLayers), w_["decoder.final_norm"]));
  }

  // After so many layers of the decoder.
  Rows hidden(const at::Tensor& source_M, const at::Tensor& tokens_S, int64_t layers) const {
    const Weights stack = w_ / "decoder";
    const Rows memory = encode(source_M);
    const auto bias = [&](int64_t head, int64_t query, int64_t key) {
      return stack["relative_bias"][bucket(query - key, kBuckets)][head].item<double>();
    };
    Rows x = oracle::looked_up(tokens_S, w_["embedding"]);
    for (int64_t i = 0; i < layers; ++i) {
      const Weights w = stack / "layers" / std::to_string(i);
      x = self_attention(x, w, bias, true);
      x = cross_attention(x, memory, w);
      x = feed_forward(x, w, i == 0);
    }
    return x;
  }

 private:
  static Rows norm(const Rows& x, const at::Tensor& weight) {
    return oracle::each(x,
                        [&](const at::Tensor& row) { return oracle::rms_norm(row, weight, kEps); });
  }
  static at::Tensor key(const Weights& w) { return w["key_value"].chunk(2)[0]; }
  static at::Tensor value(const Weights& w) { return w["key_value"].chunk(2)[1]; }
  static Rows times(const at::Tensor& matrix, const Rows& x) {
    return oracle::each(x, [&](const at::Tensor& row) { return at::mv(matrix, row); });
  }

  // Scores are not scaled, in either attention; positions matter to the first alone.
  template <typename Bias>
  static Rows self_attention(const Rows& x, const Weights& layer, Bias&& bias, bool causal) {
    const Weights w = layer / "attention";
    const Rows normed = norm(x, layer["attention_norm"]), queries = times(w["query"], normed);
    const Rows keys = times(key(w), normed), values = times(value(w), normed);
    Rows y;
    for (size_t t = 0; t < x.size(); ++t) {
      const size_t seen = causal ? t + 1 : x.size();
      const auto score = [&](double product, int64_t head, int64_t j) {
        return product + bias(head, static_cast<int64_t>(t), j);
      };
      y.push_back(x[t] +
                  at::mv(w["out"], oracle::attend(queries[t], oracle::first(keys, seen),
                                                  oracle::first(values, seen), kHeads, score)));
    }
    return y;
  }

  static Rows cross_attention(const Rows& x, const Rows& memory, const Weights& layer) {
    const Weights w = layer / "cross_attention";
    const Rows keys = times(key(w), memory), values = times(value(w), memory);
    const auto score = [](double product, int64_t, int64_t) { return product; };
    return oracle::each(x, [&](const at::Tensor& row) {
      const at::Tensor normed = oracle::rms_norm(row, layer["cross_attention_norm"], kEps);
      const at::Tensor query = at::mv(w["query"], normed);
      return row + at::mv(w["out"], oracle::attend(query, keys, values, kHeads, score));
    });
  }

  Rows feed_forward(const Rows& x, const Weights& w, bool has_experts) const {
    const auto dense = [&](const at::Tensor& row, const std::string& name) {
      const at::Tensor normed = oracle::rms_norm(row, w[name + "_norm"], kEps);
      return row + oracle::dense_ffn(normed, w / name, oracle::relu);
    };
    return oracle::each(x, [&](const at::Tensor& row) {
      if (!has_experts) return dense(row, "ffn");
      const at::Tensor h = formula_.extra == Case::kBefore ? dense(row, "extra_ffn") : row;
      const at::Tensor normed = oracle::rms_norm(h, w["ffn_norm"], kEps);
      const at::Tensor y = h + oracle::moe(normed, w / "moe", formula_.moe);
      return formula_.extra == Case::kAfter ? dense(y, "extra_ffn") : y;
    });
  }

  Case formula_;
  Weights w_;
};

class EncoderDecoderOracle : public ::testing::TestWithParam<Case> {
 protected:
  EncoderDecoderOracle()
      : instance_(model_of(GetParam().text)), reference_(GetParam(), Weights(instance_.table)) {}

  Instance instance_;
  Reference reference_;
};

TEST_P(EncoderDecoderOracle, GivesTheProbabilitiesOfItsFormulaTokenByToken) {
  const TokenBatch tokens = batch();
  const at::Tensor actual = oracle::log_probabilities_by_loss(
      tokens, kVocab, [&](const TokenBatch& b) { return instance_.losses(b); });
  std::vector<at::Tensor> expected;
  for (int64_t row = 0; row < kRows; ++row) {
    const int64_t count = tokens.source_counts_B[row].item<int64_t>();
    expected.push_back(oracle::log_probabilities(reference_.logits_of_text(
        tokens.source_BM[row].narrow(0, 0, count), tokens.tokens_BS[row])));
  }
  EXPECT_TRUE(is_near(actual, at::concat(expected), 1e-10));
}

TEST_P(EncoderDecoderOracle, HasTheHiddenStatesOfItsFormulaAfterEveryLayerOfTheDecoder) {
  TokenBatch tokens = batch();
  tokens.targets_BS = tokens.tokens_BS;
  for (int64_t layers = 0; layers <= kLayers; ++layers) {
    std::vector<at::Tensor> rows;
    for (int64_t row = 0; row < kRows; ++row) {
      const int64_t count = tokens.source_counts_B[row].item<int64_t>();
      rows.push_back(at::stack(reference_.hidden(tokens.source_BM[row].narrow(0, 0, count),
                                                 tokens.tokens_BS[row], layers)));
    }
    EXPECT_TRUE(is_near(instance_.hidden_states(tokens, layers), at::concat(rows), 1e-10))
        << layers;
  }
}

TEST_P(EncoderDecoderOracle, GeneratesByTheSameLogits) {
  const TokenBatch tokens = batch();
  const Rows expected = reference_.logits_of_text(tokens.source_BM[0], tokens.tokens_BS[0]);
  const at::NoGradGuard no_grad;
  StepContext context;
  context.group_tokens = kSource;
  TextState state = instance_.model.text().encode(tokens.source_BM.slice(0, 0, 1), context);
  const at::Tensor memory = at::stack(reference_.encode(tokens.source_BM[0]));
  EXPECT_TRUE(is_near(state.memory_TD, memory, 1e-10));
  context.group_tokens = 1;
  for (int64_t t = 0; t < kTarget; ++t) {
    const at::Tensor token = tokens.tokens_BS.slice(0, 0, 1).slice(1, t, t + 1);
    const at::Tensor logits = instance_.model.text().next_logits(token, context, state);
    EXPECT_TRUE(is_near(logits[0], expected[t], 1e-6)) << t;  // which are float32
  }
}

const Case kSwitch{"Switch",
                   "moe { num_experts: 4 top_k: 1 d_ff: 10 every_n_layers: 2 }",
                   true,
                   Case::kNone,
                   {1, false, oracle::relu}};
const Case kDenseBefore{"DenseBefore",
                        "tie_embeddings: false moe { num_experts: 4 d_ff: 10 ffn: SWIGLU "
                        "every_n_layers: 2 stacking: DENSE_BEFORE }",
                        false,
                        Case::kBefore,
                        {2, true, oracle::silu}};
const Case kDenseAfter{"DenseAfter",
                       "tie_embeddings: false moe { num_experts: 4 d_ff: 10 ffn: SWIGLU "
                       "every_n_layers: 2 stacking: DENSE_AFTER }",
                       false,
                       Case::kAfter,
                       {2, true, oracle::silu}};

INSTANTIATE_TEST_SUITE_P(Models, EncoderDecoderOracle,
                         ::testing::Values(kSwitch, kDenseBefore, kDenseAfter),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace switchyard::models
