// Saves that are written while training goes on.

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

using ::testing::HasSubstr;

class BackgroundSaves : public RunTest {};

const Arguments kEveryStep{"train.steps=6", "checkpoint.every=1"};

Arguments in_background(Arguments set) {
  set.push_back("checkpoint.asynchronous=true");
  return set;
}

TEST_F(BackgroundSaves, AreTheBytesOfSavesThatTrainingWaitsFor) {
  for (const int ranks : {1, 2}) {
    const std::string at_once = fmt::format("at_once{}", ranks);
    const std::string later = fmt::format("later{}", ranks);
    expect_trained({.run = at_once, .ranks = ranks, .set = kEveryStep});
    expect_trained({.run = later, .ranks = ranks, .set = in_background(kEveryStep)});
    for (const int step : {5, 6}) expect_same_end(later, at_once, step);
  }
}

TEST_F(BackgroundSaves, DoNotHoldUpTheNextStep) {
  const Outcome outcome = train(
      {.run = "run", .ranks = 2, .set = in_background({"train.steps=6", "checkpoint.every=2"})});
  ASSERT_THAT(outcome, EndsWithCode(0, "/step_6"));
  const size_t saved = outcome.output.find("/step_2"), next = outcome.output.find("step:      3/6");
  ASSERT_NE(next, std::string::npos) << outcome.output;
  EXPECT_LT(next, saved) << outcome.output;
}

TEST_F(BackgroundSaves, AreResumedFrom) {
  const Arguments whole = in_background({"train.steps=8", "checkpoint.every=3"});
  expect_trained({.run = "whole", .ranks = 2, .set = whole});
  Arguments part = whole;
  part.push_back("train.stop_after_steps=5");
  EXPECT_THAT(train({.run = "run", .ranks = 2, .set = part}), EndsWithCode(75, "saved"));
  expect_trained({.run = "run", .ranks = 2, .set = whole});
  expect_same_end("run", "whole", 8);
}

// The error comes some steps after the save began; what was saved before stays.
TEST_F(BackgroundSaves, ThatFailEndTheRunAndLeaveTheOneBefore) {
  const Arguments set = in_background(kEveryStep);
  EXPECT_THAT(train({.run = "run", .ranks = 2, .set = set, .extra = {"--inject", "disk_full@4:1"}}),
              EndsWithCode(7, "No space left"));
  expect_trained({.run = "whole", .ranks = 2, .set = set});
  const Outcome resumed = train({.run = "run", .ranks = 2, .set = set});
  EXPECT_THAT(resumed, EndsWithCode(0, "resumed at step 3"));
  expect_same_end("run", "whole", 6);
}

}  // namespace
}  // namespace switchyard::testing
