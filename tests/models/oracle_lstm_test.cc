// The LSTM language model of Shazeer et al. (2017, appendix C) against its text, word by word.

#include <gtest/gtest.h>

#include "core/config/reader.h"
#include "tests/models/oracle.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using oracle::Rows;
using oracle::Weights;
using switchyard::testing::is_near;

constexpr int64_t kRows = 2, kLength = 7, kVocab = 24, kBoundary = 3;

config::Model model_with(const std::string& lstm) {
  return config::load_config_text(
             "model { architecture: LSTM_LM num_layers: 2 d_model: 12 vocab_size: 24 "
             "dropout: 0.1 lstm { " +
                 lstm +
                 " } moe { num_experts: 5 top_k: 2 d_ff: 10 ffn: RELU every_n_layers: 2 "
                 "router { noise: LEARNED_NOISE } } } data { synthetic {} } train { steps: 1 "
                 "global_batch: 1 }",
             "oracle_lstm_test")
      .model();
}

using oracle::Instance;

// The second row holds two texts.
TokenBatch batch() {
  const at::Tensor tokens =
      (at::arange(kRows * kLength, at::kLong) * 5 + 2).remainder(kVocab).view({kRows, kLength});
  at::Tensor documents = at::zeros({kRows, kLength}, at::kInt);
  documents[1].slice(0, kBoundary).fill_(1);
  return {tokens, {}, documents};
}

// What goes in at each gate is its own quarter of the rows; the forget gate leans to 1 by 1.
Rows lstm(const Rows& x, const Weights& w) {
  const int64_t cells = w["bias"].numel() / 4;
  at::Tensor memory = at::zeros({cells}, at::kDouble);
  at::Tensor output = at::zeros({w["recurrent"].size(1)}, at::kDouble);
  return oracle::each(x, [&](const at::Tensor& x_D) {
    const auto gate = [&](int64_t number) {
      const auto own = [&](const char* name) { return w[name].narrow(0, number * cells, cells); };
      return at::mv(own("input"), x_D) + at::mv(own("recurrent"), output) + own("bias");
    };
    const at::Tensor in = oracle::sigmoid(gate(0)), keep = oracle::sigmoid(gate(1) + 1),
                     out = oracle::sigmoid(gate(3));
    memory = keep * memory + in * gate(2).tanh();
    output = out * memory.tanh();
    if (w.has("projection")) output = at::mv(w["projection"], output);
    return output;
  });
}

// Embedding, LSTM and experts, LSTM: so many of these two layers. Every layer's input is added to
// its output; the experts' output goes through a sigmoid before that; the gates are a softmax over
// the best k alone.
Rows hidden_of_text(const at::Tensor& tokens_S, const Weights& w, int64_t layers) {
  Rows x = oracle::looked_up(tokens_S, w["embedding"]);
  if (layers >= 1) {
    x = oracle::sum(x, lstm(x, w / "layers.0.lstm"));
    x = oracle::each(x, [&](const at::Tensor& x_D) {
      return x_D + oracle::sigmoid(oracle::moe(x_D, w / "layers.0.moe", {2, true, oracle::relu}));
    });
  }
  return layers >= 2 ? oracle::sum(x, lstm(x, w / "layers.1.lstm")) : x;
}

Rows logits_of_text(const at::Tensor& tokens_S, const Weights& w) {
  return oracle::each(hidden_of_text(tokens_S, w, 2),
                      [&](const at::Tensor& x_D) { return at::mv(w["output"], x_D); });
}

// The batch's three texts, one after another.
template <typename F>
at::Tensor of_each_text(const TokenBatch& batch, F&& rows_of) {
  const at::Tensor second = batch.tokens_BS[1];
  return at::concat({rows_of(batch.tokens_BS[0]), rows_of(second.slice(0, 0, kBoundary)),
                     rows_of(second.slice(0, kBoundary))});
}

class LstmOracle : public ::testing::TestWithParam<const char*> {};

TEST_P(LstmOracle, GivesTheProbabilitiesOfThePaperWordByWord) {
  const Instance instance(model_with(GetParam()));
  const TokenBatch tokens = batch();
  const at::Tensor actual = oracle::log_probabilities_by_loss(
      tokens, kVocab, [&](const TokenBatch& b) { return instance.losses(b); });
  const at::Tensor expected = of_each_text(tokens, [&](const at::Tensor& text) {
    return oracle::log_probabilities(logits_of_text(text, Weights(instance.table)));
  });
  EXPECT_TRUE(is_near(actual, expected, 1e-12));
}

TEST_P(LstmOracle, HasTheHiddenStatesOfThePaperAfterEveryLayer) {
  const Instance instance(model_with(GetParam()));
  for (const int64_t layers : {0, 1, 2}) {
    const at::Tensor expected = of_each_text(batch(), [&](const at::Tensor& text) {
      return at::stack(hidden_of_text(text, Weights(instance.table), layers));
    });
    EXPECT_TRUE(is_near(instance.hidden_states(batch(), layers), expected, 1e-12)) << layers;
  }
}

TEST_P(LstmOracle, GeneratesByTheSameLogits) {
  const Instance instance(model_with(GetParam()));
  const at::Tensor tokens = batch().tokens_BS.slice(0, 0, 1);
  const Rows expected = logits_of_text(tokens[0], Weights(instance.table));
  const at::NoGradGuard no_grad;
  StepContext context;
  context.group_tokens = 1;
  TextState state;
  for (int64_t t = 0; t < kLength; ++t) {
    const at::Tensor logits =
        instance.model.text().next_logits(tokens.slice(1, t, t + 1), context, state);
    EXPECT_TRUE(is_near(logits[0], expected[t], 1e-6)) << t;  // which are float32
  }
}

INSTANTIATE_TEST_SUITE_P(PlainAndProjected, LstmOracle,
                         ::testing::Values("hidden: 12", "hidden: 9"));

}  // namespace
}  // namespace switchyard::models
