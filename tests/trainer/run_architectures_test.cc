// The architectures beside the decoder through the binary: training on real text lowers the loss, a
// stopped run ends with the bytes of one that was not, and what was trained can be used.

#include <cmath>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

constexpr int kPreempted = 75;

struct Architectures : RunTest {
  // A config of the model and data given, on `steps` steps.
  std::string config_of(const std::string& model, const std::string& data, int steps) {
    const std::string path = file("run.textproto");
    write_file(path, fmt::format(R"(seed: 2
model {{ {} }}
data {{ {} }}
train {{ steps: {} global_batch: 8 }}
optimizer {{ lr: 1e-2 warmup_steps: 5 }}
eval {{ every: 0 sequences: 16 }}
log {{ every: 1 }}
)",
                                 model, data, steps));
    return path;
  }

  void expect_resumes_and_learns(const std::string& config, int steps, double least_drop) {
    expect_trained({.run = "whole", .config = config});
    const auto losses = this->losses("whole");
    const auto mean = [&](int first) {
      double sum = 0;
      for (int step = first; step < first + 5; ++step) sum += losses.at(step) / 5;
      return sum;
    };
    EXPECT_LT(mean(steps - 4), mean(1) - least_drop);
    EXPECT_THAT(train({.run = "stopped", .set = {"train.stop_after_steps=7"}, .config = config}),
                EndsWithCode(kPreempted, "saved"));
    expect_trained({.run = "stopped", .config = config});
    expect_same_end("stopped", "whole", steps);
  }

  void expect_same_on_two_ranks(const std::string& config) {
    expect_trained({.run = "two", .ranks = 2, .config = config});
    const auto expected = losses("whole"), actual = losses("two");
    ASSERT_EQ(actual.size(), expected.size());
    for (int step = 1; step <= 10; ++step) {
      EXPECT_NEAR(actual.at(step), expected.at(step), 1e-4 * expected.at(step)) << step;
    }
  }

  std::string text_data(int length) {
    const std::string prefix = tokenize_documents();
    return fmt::format(
        R"(tokenizer: "bytes" sequence_length: {} train {{ path: "{}" }} validation {{ path: "{}" }})",
        length, prefix, prefix);
  }
};

TEST_F(Architectures, TheLstmLanguageModelLearnsTextAndResumes) {
  const std::string config = config_of(
      "architecture: LSTM_LM num_layers: 2 d_model: 32 vocab_size: 264 dropout: 0.1 "
      "lstm { hidden: 48 sampled_softmax: 64 } moe { num_experts: 4 d_ff: 32 every_n_layers: 2 }",
      text_data(32), 40);
  expect_resumes_and_learns(config, 40, 0.3);
  expect_same_on_two_ranks(config);
  EXPECT_THAT(call({"generate", file("whole"), "--prompt", "The", "--max-tokens", "5"}),
              EndsWithCode(0, "The"));
}

TEST_F(Architectures, TheEncoderDecoderLearnsToRestoreSpansAndResumes) {
  const std::string config = config_of(
      "architecture: ENCODER_DECODER num_layers: 2 d_model: 32 d_ff: 64 vocab_size: 280 "
      "attention { num_heads: 4 } moe { num_experts: 4 d_ff: 32 every_n_layers: 2 }",
      text_data(64), 40);
  expect_resumes_and_learns(config, 40, 0.3);
  expect_same_on_two_ranks(config);
  EXPECT_THAT(call({"generate", file("whole"), "--prompt", "The", "--max-tokens", "5"}),
              EndsWithCode(0, ""));
}

TEST_F(Architectures, TheEncoderDecoderNeedsRoomForSentinels) {
  const std::string config = config_of(
      "architecture: ENCODER_DECODER num_layers: 1 d_model: 16 d_ff: 16 vocab_size: 264 "
      "attention { num_heads: 2 }",
      text_data(64), 20);
  EXPECT_THAT(train({.run = "run", .config = config}),
              EndsWithCode(2, "model.vocab_size (264) must be at least 267"));
}

TEST_F(Architectures, TheEncoderDecoderLearnsPairsOfTexts) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += fmt::format("de\neins {}\n\none {}\n\n", i % 7, i % 7);
  write_file(file("pairs.txt"), text);
  const std::string prefix = file("pairs");
  EXPECT_THAT(call({"tokenize", file("pairs.txt"), "--tokenizer", "bytes", "--format", "paragraphs",
                    "--out", prefix}),
              EndsWithCode(0, "400 documents"));
  const std::string config = config_of(
      "architecture: ENCODER_DECODER num_layers: 1 d_model: 32 d_ff: 64 vocab_size: 264 "
      "attention { num_heads: 4 }",
      fmt::format(
          "objective: TRANSLATION sequence_length: 16 target_length: 8 train {{ path: \"{}\" "
          "}} validation {{ path: \"{}\" }}",
          prefix, prefix),
      60);
  expect_resumes_and_learns(config, 60, 1.0);
  EXPECT_THAT(call({"generate", file("whole"), "--prompt", "de\neins 3", "--max-tokens", "8",
                    "--temperature", "0"}),
              EndsWithCode(0, "one"));
}

// Two classes that no single line parts, by 24 speakers.
std::string vowel_table() {
  std::string text = "Speaker,Vowel,F1,F2\n";
  for (int i = 0; i < 96; ++i) {
    const double angle = 0.7 * i, side = i % 4 < 2 ? 1 : -1;
    const bool first = i % 2 == 0;
    const double x = side * (first ? 300 : 0) + 20 * std::sin(angle);
    const double y = side * (first ? 0 : 900) + 60 * std::cos(angle);
    text += fmt::format("{},{},{:.1f},{:.1f}\n", i / 4, first ? "iy" : "ah", 500 + x, 1500 + y);
  }
  return text;
}

struct LocalExperts : Architectures {
  std::string config_of_table(const std::string& experts) {
    write_file(file("table.csv"), vowel_table());
    const std::string path = file("vowels.textproto");
    write_file(path, fmt::format(R"(model {{ architecture: LOCAL_EXPERTS local_experts {{ {} }} }}
data {{
  table {{
    path: "{}" features: "F1" features: "F2" label: "Vowel" classes: "iy" classes: "ah"
    group: "Speaker" train_groups: 16 test_groups: 8
  }}
}}
train {{ steps: 400 global_batch: 64 stop_below_error: 0.08 }}
optimizer {{ kind: SGD lr: 2 schedule: CONSTANT warmup_steps: 0 }}
eval {{ every: 0 }}
log {{ every: 1 }}
runtime {{ compute: FP64 }}
)",
                                 experts, file("table.csv")));
    return path;
  }
};

TEST_F(LocalExperts, StopAtTheErrorAskedForAndStayThere) {
  const std::string config = config_of_table("num_experts: 4");
  EXPECT_THAT(train({.run = "run", .config = config}),
              EndsWithCode(0, "the mean squared error is 0.07"));
  const auto records = metrics("run");
  EXPECT_LT(losses("run").rbegin()->first, 400);
  EXPECT_TRUE(records.back().contains("eval/test/accuracy"));
  EXPECT_GT(records.back()["eval/test/accuracy"], 0.8);
  EXPECT_THAT(train({.run = "run", .config = config}), EndsWithCode(0, "resumed at step"));
  EXPECT_EQ(losses("run").size(), records.size() - 1);
}

TEST_F(LocalExperts, TrainAlikeOnTwoRanksAndResume) {
  const std::string config = config_of_table("num_experts: 4");
  const Arguments set{"train.steps=20", "train.stop_below_error=0"};
  expect_trained({.run = "whole", .set = set, .config = config});
  expect_trained({.run = "two", .ranks = 2, .set = set, .config = config});
  const auto expected = losses("whole"), actual = losses("two");
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [step, loss] : expected) EXPECT_NEAR(actual.at(step), loss, 1e-10) << step;
  Arguments stop = set;
  stop.push_back("train.stop_after_steps=7");
  EXPECT_THAT(train({.run = "stopped", .set = stop, .config = config}),
              EndsWithCode(kPreempted, "saved"));
  expect_trained({.run = "stopped", .set = set, .config = config});
  expect_same_end("stopped", "whole", 20);
}

TEST_F(LocalExperts, IncludeTheNetworkThatTheyAreComparedWith) {
  const std::string config = config_of_table("num_experts: 1 hidden_units: 6 error: COOPERATIVE");
  EXPECT_THAT(train({.run = "run", .set = {"train.steps=2000"}, .config = config}),
              EndsWithCode(0, "the mean squared error is 0.07"));
}

TEST_F(LocalExperts, SayWhatIsWrongWithATable) {
  const std::string config = config_of_table("num_experts: 4");
  EXPECT_THAT(
      train({.run = "run", .set = {"data.table.path=" + file("none.csv")}, .config = config}),
      EndsWithCode(7, "none.csv"));
  EXPECT_THAT(train({.run = "run", .set = {"data.table.label=Word"}, .config = config}),
              EndsWithCode(3, "has no column \"Word\""));
  EXPECT_THAT(train({.run = "run", .set = {"data.table.train_groups=99"}, .config = config}),
              EndsWithCode(3, "the table has 24"));
}

}  // namespace
}  // namespace switchyard::testing
