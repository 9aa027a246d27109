// What a run computes: on any number of ranks, twice, with recompute, over a thousand steps.

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::Key;

using Training = RunTest;

TEST_F(Training, GivesTheSameLossesOnOneTwoAndFourRanks) {
  expect_trained({.run = "one"});
  const auto expected = losses("one");
  ASSERT_EQ(expected.size(), 20u);
  EXPECT_LT(expected.rbegin()->second, expected.begin()->second);
  for (const int ranks : {2, 4}) {
    const std::string run = std::to_string(ranks);
    expect_trained({.run = run, .ranks = ranks});
    const auto actual = losses(run);
    ASSERT_EQ(actual.size(), expected.size());
    for (const auto& [step, loss] : expected) {
      EXPECT_NEAR(actual.at(step), loss, 1e-5 * loss) << "step " << step << " on " << ranks;
    }
  }
}

TEST_F(Training, RepeatsByteByByte) {
  for (const int ranks : {1, 2}) {
    const std::string run = fmt::format("{}ranks", ranks);
    for (const char* take : {"_a", "_b"}) {
      expect_trained({.run = run + take, .ranks = ranks, .threads = 3 - ranks});
    }
    expect_same_end(run + "_a", run + "_b", 20);
  }
}

TEST_F(Training, WithRecomputeChangesNoByte) {
  expect_trained({.run = "plain"});
  expect_trained({.run = "recompute", .set = {"train.recompute=RECOMPUTE_LAYER"}});
  expect_same_end("recompute", "plain", 20);
}

TEST_F(Training, BalancesOverTheMicroBatchesOfAStepUnlessEachRankIsToByItself) {
  const auto train_with = [&](const std::string& statistics, int accumulation) {
    expect_trained({.run = fmt::format("{}{}", statistics, accumulation),
                    .set = {"train.steps=3", fmt::format("train.accumulation={}", accumulation),
                            "model.moe.balance_loss.statistics=" + statistics}});
  };
  for (const char* statistics : {"GLOBAL_BATCH", "PER_RANK"}) {
    for (const int accumulation : {1, 2}) train_with(statistics, accumulation);
  }
  expect_same_end("PER_RANK1", "GLOBAL_BATCH1", 3);
  const auto balance = [&](const char* run) {
    return metrics(run).front()["moe/aux"].get<double>();
  };
  EXPECT_GT(std::abs(balance("GLOBAL_BATCH2") - balance("PER_RANK2")), 1e-5);
}

TEST_F(Training, WorksWithDenseLayers) {
  expect_trained({.run = "some", .ranks = 2, .set = {"model.moe.first_layer=1", "model.d_ff=64"}});
  std::string text = read_file(project("configs/debug.textproto"));
  const size_t moe = text.find("moe {");
  ASSERT_NE(moe, std::string::npos);
  text.replace(moe, text.find('}', moe) + 1 - moe, "d_ff: 64");
  write_file(file("dense.textproto"), text);
  for (const int ranks : {1, 2}) {
    const std::string run = fmt::format("only{}", ranks);
    expect_trained({.run = run, .ranks = ranks, .config = file("dense.textproto")});
    EXPECT_LT(losses(run).at(20), losses(run).at(1));
  }
  EXPECT_NEAR(losses("only2").at(20), losses("only1").at(20), 1e-4);
}

TEST_F(Training, ReportsTheLossesOfTheOutputBesideItsOwn) {
  for (const int ranks : {1, 2}) {
    expect_trained({.run = std::to_string(ranks),
                    .ranks = ranks,
                    .set = {"model.mtp.weight=0.3", "model.output_z_loss_coefficient=1e-3",
                            "model.attention.dropout=0.1"}});
  }
  const auto one = metrics("1").front(), two = metrics("2").front();
  for (const char* loss : {"mtp", "output_z"}) {
    EXPECT_GT(one[loss], 1) << loss;
    EXPECT_NEAR(two[loss], one[loss], 1e-5 * one[loss].get<double>()) << loss;
  }
}

TEST_F(Training, DecaysNormsAndEmbeddingsAsItIsTold) {
  const auto last_loss = [&](const std::string& run, const Arguments& set) {
    Arguments all{"train.steps=4", "optimizer.weight_decay=5"};
    all.insert(all.end(), set.begin(), set.end());
    expect_trained({.run = run, .set = all});
    return losses(run).at(4);
  };
  const double plain = last_loss("plain", {});
  EXPECT_EQ(last_loss("same", {"optimizer.decay_norms=false", "optimizer.decay_embeddings=true"}),
            plain);
  EXPECT_NE(last_loss("norms", {"optimizer.decay_norms=true"}), plain);
  EXPECT_NE(last_loss("embeddings", {"optimizer.decay_embeddings=false"}), plain);
}

TEST_F(Training, SaysWhereItsRoutingLooksAhead) {
  EXPECT_THAT(train({.run = "ahead",
                     .set = {"train.steps=1", "optimizer.warmup_steps=0",
                             "model.moe.router.selection=SINKHORN"}}),
              EndsWithCode(0, "warning: model.moe.router.selection (SINKHORN): in training"));
}

TEST_F(Training, OfNoStepsIsARunToo) {
  expect_trained({.run = "none", .set = {"train.steps=0"}});
  EXPECT_TRUE(losses("none").empty());
}

TEST_F(Training, KeepsItsMemoryOverAThousandSteps) {
  expect_trained({.run = "long",
                  .set = {"train.steps=1000", "model.num_layers=1", "model.d_model=32",
                          "model.attention.num_heads=2", "model.attention.num_kv_heads=2",
                          "train.global_batch=4", "log.every=200"}});
  std::map<int, double> peak;
  for (const auto& record : timing("long")) peak[record["step"]] = record["memory_bytes"];
  ASSERT_THAT(peak, ElementsAre(Key(200), Key(400), Key(600), Key(800), Key(1000)));
  EXPECT_LT(peak[1000], 1.03 * peak[200]);
}

TEST_F(Training, GivesUpOnLossesThatAreNoNumbers) {
  const Outcome outcome =
      train({.run = "nan",
             .set = {"optimizer.lr=1e30", "optimizer.clip_norm=0", "train.max_skipped_steps=2"}});
  EXPECT_THAT(outcome, EndsWithCode(6, "3 steps in a row had a non-finite loss"));
  for (const char* absent : {"-nan", "checkpoint in"})  // none was saved
    EXPECT_EQ(outcome.output.find(absent), std::string::npos) << outcome.output;
}

// The rate ruins the weights in step 6, which is saved; every step after it is skipped.
TEST_F(Training, KeepsTheCheckpointsBeforeAStreakOfSkippedSteps) {
  const Outcome outcome =
      train({.run = "nan",
             .set = {"optimizer.schedule=CONSTANT", "optimizer.clip_norm=0", "checkpoint.every=1",
                     "train.max_skipped_steps=4", "schedule[0].field=optimizer.lr",
                     "schedule[0].point[0].step=5", "schedule[0].point[0].value=1e30"}});
  EXPECT_THAT(outcome, EndsWithCode(6, "5 steps in a row had a non-finite loss"));
  EXPECT_NE(outcome.output.find("resume from an earlier checkpoint in"), std::string::npos);
  EXPECT_NE(outcome.output.find("not saved: the last 4 step(s) were skipped"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(file("nan/checkpoints/step_5/COMMIT")));
  EXPECT_THAT(train({.run = "nan",
                     .set = {"optimizer.clip_norm=0", "optimizer.schedule=CONSTANT"},
                     .extra = {"--resume", file("nan/checkpoints/step_5")}}),
              EndsWithCode(0, "resumed at step 5"));
}

// What a terminal shows in the end of a line on which the bar was drawn and wiped.
std::string after_wiping(const std::string& line) {
  const size_t wiped = line.rfind("\r\033[2K");
  return wiped == std::string::npos ? line : line.substr(wiped + 5);
}

TEST_F(Training, DrawsABarOnATerminalThatLeavesItsLinesWhole) {
  ASSERT_EQ(::setenv("SWITCHYARD_TERMINAL", "1", 1), 0);
  std::vector<Outcome> outcomes;
  for (const int ranks : {1, 2}) {
    outcomes.push_back(train({.run = std::to_string(ranks), .ranks = ranks}));
  }
  ASSERT_EQ(::unsetenv("SWITCHYARD_TERMINAL"), 0);
  for (const Outcome& outcome : outcomes) {
    EXPECT_THAT(outcome, EndsWithCode(0, "100% |########################| step 20/20  eta 0s"));
    EXPECT_TRUE(outcome.output.ends_with("\r\033[2K")) << "the bar stays";
    std::istringstream lines(outcome.output);
    for (std::string line; std::getline(lines, line);) {
      const std::string shown = after_wiping(line);
      if (shown.find("loss:") != std::string::npos) {
        EXPECT_TRUE(shown.starts_with("step:") || shown.starts_with("eval:")) << shown;
      }
      EXPECT_EQ(shown.find("% |"), std::string::npos) << shown;
    }
  }
}

TEST_F(Training, DrawsNoBarIntoAPipe) {
  for (const int ranks : {1, 2}) {  // Open MPI gives a rank a terminal all the same
    const Outcome outcome = train({.run = std::to_string(ranks), .ranks = ranks});
    EXPECT_EQ(outcome.output.find("\033["), std::string::npos) << ranks;
  }
}

using Text = RunTest;

TEST_F(Text, IsTokenizedTrainedOnEvaluatedAndGenerated) {
  const std::string config = config_for(tokenize_documents());
  expect_trained({.run = "text", .ranks = 2, .config = config});

  // Saved by two ranks that held half of the experts each, evaluated by one and by two.
  const auto evaluation = [&](int ranks) {
    const Outcome outcome = call({"eval", file("text"), "--sequences", "16", "--json"}, ranks);
    EXPECT_THAT(outcome, EndsWithCode(0, "bits_per_byte"));
    return nlohmann::json::parse(outcome.output, nullptr, false);
  };
  const auto one = evaluation(1), two = evaluation(2);
  ASSERT_TRUE(one.contains("loss") && two.contains("loss"));
  const double at_the_end = metrics("text").back()["eval/loss"];
  EXPECT_NEAR(one["loss"], at_the_end, 1e-5 * at_the_end);
  EXPECT_NEAR(two["loss"], at_the_end, 1e-5 * at_the_end);
  EXPECT_LT(at_the_end, 0.7 * std::log(264.0));

  const Arguments prompt{"generate", file("text"), "--prompt", "The ", "--max-tokens", "40"};
  const Outcome text = call(prompt);
  EXPECT_THAT(text, EndsWithCode(0, "The "));
  EXPECT_GT(text.output.size(), 20u);
  EXPECT_EQ(call(prompt).output, text.output);
  EXPECT_EQ(call(prompt, 2).output, text.output);
}

TEST_F(Text, OfATokenizerThatIsLargerThanTheModelIsRefused) {
  const std::string config = config_for(tokenize_documents());
  EXPECT_THAT(train({.run = "small", .set = {"model.vocab_size=128"}, .config = config}),
              EndsWithCode(2, "model.vocab_size (128) must be at least the 264 tokens"));
}

TEST_F(Text, ThatIsMissingIsNamed) {
  const std::string config = config_for(file("nowhere"));
  EXPECT_THAT(train({.run = "missing", .config = config}), EndsWithCode(3, file("nowhere")));
  EXPECT_THAT(train({.run = "missing", .ranks = 2, .config = config}),
              EndsWithCode(3, file("nowhere")));
}

// One rank meets it first, in the middle of the run.
TEST_F(Text, WithAnIdBeyondTheVocabularyEndsTheJob) {
  const std::string prefix = tokenize_documents();
  std::string tokens = read_file(prefix + ".bin");
  ASSERT_GT(tokens.size(), 8000u);
  tokens[8001] = '\x7f';  // the upper byte of a uint16
  write_file(prefix + ".bin", tokens);
  std::filesystem::remove(prefix + ".meta.json");  // whose checksums would tell first
  for (const int ranks : {1, 2}) {
    const Outcome outcome = train({.run = std::to_string(ranks),
                                   .ranks = ranks,
                                   .set = {"train.steps=500"},
                                   .config = config_for(prefix)});
    EXPECT_THAT(outcome, EndsWithCode(3, "token id 32"));
  }
}

TEST_F(Text, ThatIsCutShortDuringTheRunEndsTheJob) {
  const std::string prefix = tokenize_documents();
  const auto job = start_training({.run = "cut",
                                   .ranks = 2,
                                   .set = {"train.steps=100000", "log.every=1"},
                                   .config = config_for(prefix)});
  ASSERT_TRUE(job->wait_until([&] { return has_step("cut", 2); }));
  std::filesystem::resize_file(prefix + ".bin", 1000);
  EXPECT_THAT(job->finish(), EndsWithCode(3, prefix + ".bin"));
}

}  // namespace
}  // namespace switchyard::testing
