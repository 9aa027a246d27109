// The LSTM language model of Shazeer et al. (2017, appendix C) against its text, word by word.

#include <gtest/gtest.h>

#include "core/config/reader.h"
#include "models/lstm_lm.h"
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

using Instance = oracle::Instance<LstmLm>;

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

// Embedding, LSTM, experts, LSTM, softmax. Every layer's input is added to its output; the experts'
// output goes through a sigmoid before that; the gates are a softmax over the best k alone.
Rows logits_of_text(const at::Tensor& tokens_S, const Weights& w) {
  Rows x = oracle::looked_up(tokens_S, w["embedding"]);
  x = oracle::sum(x, lstm(x, w / "layers.0.lstm"));
  x = oracle::each(x, [&](const at::Tensor& x_D) {
    return x_D + oracle::sigmoid(oracle::moe(x_D, w / "layers.0.moe", {2, true, oracle::relu}));
  });
  x = oracle::sum(x, lstm(x, w / "layers.1.lstm"));
  return oracle::each(x, [&](const at::Tensor& x_D) { return at::mv(w["output"], x_D); });
}

class LstmOracle : public ::testing::TestWithParam<const char*> {};

TEST_P(LstmOracle, GivesTheProbabilitiesOfThePaperWordByWord) {
  const Instance instance(model_with(GetParam()));
  const TokenBatch tokens = batch();
  const at::Tensor actual = oracle::log_probabilities_by_loss(
      tokens, kVocab, [&](const TokenBatch& b) { return instance.losses(b); });
  const Weights w(instance.table);
  const at::Tensor second = tokens.tokens_BS[1];
  std::vector<at::Tensor> expected;
  for (const at::Tensor& text :
       {tokens.tokens_BS[0], second.slice(0, 0, kBoundary), second.slice(0, kBoundary)})
    expected.push_back(oracle::log_probabilities(logits_of_text(text, w)));
  EXPECT_TRUE(is_near(actual, at::concat(expected), 1e-12));
}

TEST_P(LstmOracle, GeneratesByTheSameLogits) {
  const Instance instance(model_with(GetParam()));
  const at::Tensor tokens = batch().tokens_BS.slice(0, 0, 1);
  const Rows expected = logits_of_text(tokens[0], Weights(instance.table));
  const at::NoGradGuard no_grad;
  StepContext context;
  context.group_tokens = 1;
  std::vector<LstmState> states;
  for (int64_t t = 0; t < kLength; ++t) {
    const at::Tensor logits =
        instance.model.next_logits(tokens.slice(1, t, t + 1), context, states);
    EXPECT_TRUE(is_near(logits[0], expected[t], 1e-6)) << t;  // which are float32
  }
}

INSTANTIATE_TEST_SUITE_P(PlainAndProjected, LstmOracle,
                         ::testing::Values("hidden: 12", "hidden: 9"));

}  // namespace
}  // namespace switchyard::models
