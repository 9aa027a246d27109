// A run that is ended at any moment and started again ends with the bytes of one that never was.

#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 20, kKilled = 128 + SIGKILL, kPreempted = 75;

struct Resume : RunTest {
  // Waits for the log line of `step`, then for a random part of about a step or a save, and kills
  // all ranks at once. False if the run was quicker.
  bool kill_after(const TrainCall& call, int step, std::mt19937& random) {
    const auto process = start_training(call);
    if (!process->wait_until([&] { return step == 0 || has_step(call.run, step); })) return false;
    const int longest = step == 0 ? 800'000 : 10'000;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % longest));
    for (const pid_t rank : process->leaves()) ::kill(rank, SIGKILL);
    return process->finish().code != 0;
  }

  void expect_survives_kills(TrainCall call, const std::vector<int>& steps) {
    TrainCall whole = call;
    whole.run = "whole";
    expect_trained(whole);
    std::mt19937 random(17 + call.ranks);
    int kills = 0;
    for (const int step : steps) kills += kill_after(call, step, random);
    EXPECT_GE(2 * kills, static_cast<int>(steps.size()));  // on a quick machine some come too late
    expect_trained(call);
    expect_same_end(call.run, "whole", kSteps);
  }
};

TEST_F(Resume, SurvivesKillsOfOneRankThatSavesEveryStep) {
  expect_survives_kills({.run = "killed", .set = {"checkpoint.every=1"}}, {0, 2, 6, 14, 19});
}

TEST_F(Resume, SurvivesKillsOfOneRankBetweenSaves) {
  expect_survives_kills({.run = "killed", .set = {"checkpoint.every=3", "eval.every=2"}},
                        {1, 7, 17});
}

TEST_F(Resume, SurvivesKillsOfTwoRanks) {
  expect_survives_kills({.run = "killed", .ranks = 2, .set = {"checkpoint.every=2"}}, {0, 9, 15});
}

TEST_F(Resume, SurvivesKillsOfTwoStages) {
  const Arguments set{"checkpoint.every=2", "mesh.pipeline=2", "train.accumulation=4",
                      "model.tie_embeddings=true"};
  expect_survives_kills({.run = "killed", .ranks = 2, .set = set}, {2, 9});
}

// A run killed between the two would be resumed at its end and never evaluate it.
TEST_F(Resume, FindsTheLastStepEvaluatedBecauseThatComesBeforeItsSave) {
  const Outcome outcome = train({.run = "run", .set = {"checkpoint.every=10"}});
  ASSERT_THAT(outcome, EndsWithCode(0, "checkpoints/step_20"));
  EXPECT_LT(outcome.output.find("eval: step 20"), outcome.output.find("checkpoints/step_20"));
}

// Every step takes longer than a millionth of a minute, so that the clock says the same each time.
TEST_F(Resume, SavesByTheClockToo) {
  const Arguments set{"train.steps=5", "eval.every=2"};
  expect_trained({.run = "whole", .ranks = 2, .set = set});
  Arguments timed = set;
  timed.insert(timed.end(), {"checkpoint.every_minutes=1e-6", "checkpoint.keep=9"});
  EXPECT_THAT(train({.run = "run", .ranks = 2, .set = timed}),
              EndsWithCode(0,
                           "saves: every 1e-06 minute(s), at the end, and before it leaves on "
                           "SIGTERM, SIGINT"));
  for (int step = 1; step <= 5; ++step)
    EXPECT_TRUE(std::filesystem::exists(file(fmt::format("run/checkpoints/step_{}/COMMIT", step))));
  expect_same_end("run", "whole", 5);
}

TEST_F(Resume, GoesOnAfterASignalThatStoppedIt) {
  for (const int ranks : {1, 2}) {
    const std::string whole = fmt::format("whole{}", ranks), run = fmt::format("stopped{}", ranks);
    expect_trained({.run = whole, .ranks = ranks});
    const auto process = start_training({.run = run, .ranks = ranks});
    ASSERT_TRUE(process->wait_until([&] { return has_step(run, 3); }));
    process->send(SIGTERM);
    EXPECT_THAT(process->finish(), EndsWithCode(kPreempted, "and saved"));
    expect_trained({.run = run, .ranks = ranks});
    expect_same_end(run, whole, kSteps);
  }
}

TEST_F(Resume, GoesOnAfterAPlannedStop) {
  expect_trained({.run = "whole"});
  EXPECT_THAT(train({.run = "stopped", .set = {"train.stop_after_steps=7"}}),
              EndsWithCode(kPreempted, "stopped at step 7 and saved"));
  EXPECT_THAT(train({.run = "stopped"}), EndsWithCode(0, "resumed at step 7"));
  expect_same_end("stopped", "whole", kSteps);
}

TEST_F(Resume, GoesOnWithEveryOptimizer) {
  for (const std::string kind : {"ADAFACTOR", "SGD", "ADAM_FACTORED_EXPERTS"}) {
    Arguments set{"optimizer.kind=" + kind};
    if (kind == "SGD") set.push_back("optimizer.momentum=0.9");
    if (kind == "ADAFACTOR") set.push_back("optimizer.adafactor.least_factored_dim=16");
    expect_trained({.run = "whole" + kind, .set = set});
    Arguments stop = set;
    stop.push_back("train.stop_after_steps=7");
    EXPECT_THAT(train({.run = "stopped" + kind, .set = stop}), EndsWithCode(kPreempted, "saved"));
    EXPECT_THAT(train({.run = "stopped" + kind}), EndsWithCode(4, "optimizer.kind"));
    expect_trained({.run = "stopped" + kind, .set = set});
    expect_same_end("stopped" + kind, "whole" + kind, kSteps);
  }
}

// 32 tokens per step leave some of 16 experts without one; which, and since when, is saved too.
TEST_F(Resume, GoesOnAfterDeadExpertsWereRevived) {
  const Arguments set{"model.moe.num_experts=16", "model.moe.top_k=1", "train.global_batch=1",
                      "model.moe.dead_expert_action=REINITIALIZE", "log.dead_after_steps=3"};
  const char* revival = " had no token for 3 steps; it is a copy of expert ";
  EXPECT_THAT(train({.run = "whole", .set = set}), EndsWithCode(0, revival));
  Arguments stop = set;
  stop.push_back("train.stop_after_steps=10");
  EXPECT_THAT(train({.run = "stopped", .set = stop}), EndsWithCode(kPreempted, revival));
  EXPECT_THAT(train({.run = "stopped", .set = set}), EndsWithCode(0, revival));
  expect_same_end("stopped", "whole", kSteps);
}

TEST_F(Resume, OfAFinishedRunChangesNothing) {
  expect_trained({.run = "a"});
  expect_trained({.run = "b"});
  EXPECT_THAT(train({.run = "b"}), EndsWithCode(0, "resumed at step 20"));
  expect_same_end("b", "a", kSteps);
}

TEST_F(Resume, GoesOnFromTheBranchThatItWentBackTo) {
  for (const int ranks : {1, 2}) {
    const std::string whole = fmt::format("whole{}", ranks), run = fmt::format("back{}", ranks);
    expect_trained({.run = whole, .ranks = ranks});
    const Arguments every{"checkpoint.every=5", "checkpoint.keep=4"};
    expect_trained({.run = run, .ranks = ranks, .set = every});
    const Arguments stop{"checkpoint.every=5", "checkpoint.keep=4", "train.stop_after_steps=13"};
    EXPECT_THAT(train({.run = run,
                       .ranks = ranks,
                       .set = stop,
                       .extra = {"--resume", file(run + "/checkpoints/step_10")}}),
                EndsWithCode(kPreempted,
                             "went back to step 10: what was saved after it is kept as "
                             "step_20.abandoned-1, step_15.abandoned-1"));
    EXPECT_THAT(train({.run = run, .ranks = ranks}), EndsWithCode(0, "resumed at step 13"));
    expect_same_end(run, whole, kSteps);
    EXPECT_TRUE(std::filesystem::exists(file(run + "/checkpoints/step_15.abandoned-1/COMMIT")));
  }
}

TEST_F(Resume, GoesOnFromTheBranchThatItWentBackToThoughItWasNeverSaved) {
  expect_trained({.run = "whole"});
  const Arguments every{"checkpoint.every=5", "checkpoint.keep=4"};
  expect_trained({.run = "back", .set = every});
  EXPECT_THAT(
      train({.run = "back",
             .set = every,
             .extra = {"--resume", file("back/checkpoints/step_10"), "--inject", "die@12:0"}}),
      EndsWithCode(kKilled, "went back to step 10"));
  EXPECT_THAT(train({.run = "back", .set = every}), EndsWithCode(0, "resumed at step 10"));
  expect_same_end("back", "whole", kSteps);
}

TEST_F(Resume, TakesTheCheckpointBeforeADamagedOne) {
  expect_trained({.run = "whole"});
  EXPECT_THAT(train({.run = "damaged", .set = {"checkpoint.every=5", "train.stop_after_steps=10"}}),
              EndsWithCode(kPreempted, "step_10"));
  const std::string weights =
      file("damaged/checkpoints/step_10/weights-00000-of-00001.safetensors");
  std::string bytes = read_file(weights);
  ASSERT_FALSE(bytes.empty());
  bytes[bytes.size() / 2] ^= 4;
  write_file(weights, bytes);
  const Outcome outcome = train({.run = "damaged"});
  EXPECT_THAT(outcome, EndsWithCode(0, "resumed at step 5"));
  EXPECT_THAT(outcome.output, ::testing::HasSubstr("step_10"));
  expect_same_end("damaged", "whole", kSteps);
}

TEST_F(Resume, ContinuesOnAnotherNumberOfRanks) {
  expect_trained({.run = "whole"});
  EXPECT_THAT(train({.run = "moved", .ranks = 2, .set = {"train.stop_after_steps=8"}}),
              EndsWithCode(kPreempted, ""));
  expect_trained({.run = "moved"});
  const auto expected = losses("whole"), actual = losses("moved");
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [step, loss] : expected) EXPECT_NEAR(actual.at(step), loss, 1e-5 * loss) << step;
}

TEST_F(Resume, IsRefusedWhereItWouldNotBeTheSameRun) {
  EXPECT_THAT(train({.run = "run", .set = {"train.stop_after_steps=2"}}),
              EndsWithCode(kPreempted, ""));
  EXPECT_THAT(train({.run = "run", .extra = {"--resume", "never"}}),
              EndsWithCode(4, "already holds a checkpoint of step 2"));
  const Outcome other = train({.run = "run", .set = {"model.moe.d_ff=32", "seed=9"}});
  EXPECT_THAT(other, EndsWithCode(4, "model.moe.d_ff: 64 -> 32"));
  EXPECT_THAT(other.output, ::testing::HasSubstr("--init-from"));
  EXPECT_THAT(train({.run = "run", .extra = {"--resume", file("nothing")}}),
              EndsWithCode(4, file("nothing")));
  EXPECT_THAT(train({.run = "other", .extra = {"--resume", file("run")}}),
              EndsWithCode(0, "step 2"));
}

TEST_F(Resume, TakesWhatIsNotInTheWeightsAsItIsNow) {
  const Arguments set{"train.steps=5", "model.moe.capacity.policy=BY_POSITION"};
  Arguments stop = set, changed = set;
  stop.push_back("train.stop_after_steps=2");
  const std::vector<std::pair<std::string, std::string>> changes{
      {"model.moe.balance_loss.coefficient", "0.01 -> 0.5"},
      {"model.moe.expert_dropout", "0 -> 0.1"},
      {"model.moe.capacity.eval_factor", "2 -> 1.5"},
      {"optimizer.weight_decay", "0.1 -> 0.2"}};
  for (const auto& [path, values] : changes)
    changed.push_back(path + "=" + values.substr(values.rfind(' ') + 1));
  expect_trained({.run = "whole", .set = set});
  EXPECT_THAT(train({.run = "run", .set = stop}), EndsWithCode(kPreempted, "saved"));
  const Outcome outcome = train({.run = "run", .set = changed});
  EXPECT_EQ(outcome.code, 0);
  for (const auto& [path, values] : changes) {
    const std::string line = "changed since the save: " + path + ": " + values + "\n";
    EXPECT_THAT(outcome.output, ::testing::HasSubstr(line));
    EXPECT_THAT(read_file(file("run/log.txt")), ::testing::HasSubstr(line));
  }
  EXPECT_EQ(losses("run").at(2), losses("whole").at(2));
  EXPECT_NE(losses("run").at(5), losses("whole").at(5));
}

TEST_F(Resume, IsRefusedToASecondJobInOneFolder) {
  const TrainCall endless{.run = "run", .set = {"train.steps=100000"}};
  const auto first = start_training(endless);
  ASSERT_TRUE(first->wait_until([&] { return has_step("run", 1); }));
  EXPECT_THAT(train(endless), EndsWithCode(4, "another job is using this run's folder"));
  EXPECT_TRUE(first->is_running());
  first->send(SIGTERM);
  EXPECT_THAT(first->finish(), EndsWithCode(kPreempted, "saved"));
}

}  // namespace
}  // namespace switchyard::testing
