// Faults of one rank at one step: how the job ends, and that the next start goes on as if nothing
// had been.

#include <filesystem>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 20, kAnyError = -1;

struct Inject : RunTest {
  // Two ranks that save every third step.
  Outcome train_with(const std::string& run, const Arguments& faults, const Arguments& set = {}) {
    TrainCall call{
        .run = run, .ranks = 2, .set = {"checkpoint.every=3", "runtime.timeout_seconds=2"}};
    call.set.insert(call.set.end(), set.begin(), set.end());
    for (const std::string& fault : faults)
      call.extra.insert(call.extra.end(), {"--inject", fault});
    return train(call);
  }

  bool has(const std::string& path) const { return std::filesystem::exists(file(path)); }
};

TEST_F(Inject, EndsTheJobSoThatTheNextStartGoesOn) {
  expect_trained({.run = "whole", .ranks = 2, .set = {"checkpoint.every=3"}});
  struct Case {
    std::string fault;
    int code;
    std::string message, resumed;
  };
  for (const Case& c : {
           Case{"segfault@8:1", kAnyError, "rank 1", "resumed at step 6"},
           Case{"throw@8:1", 1, "[rank 1/2] error[1]: injected exception", "resumed at step 6"},
           Case{"hang@8:0", 5, "missing: rank 0", "resumed at step 6"},
           Case{"disk_full@9:1", 7, "No space left on device", "resumed at step 6"},
           Case{"short_write@9:1", 7, "a rank wrote", "resumed at step 6"},
       }) {
    const std::string run = c.fault.substr(0, c.fault.find('@'));
    const Outcome outcome = train_with(run, {c.fault});
    EXPECT_THAT(outcome.output, ::testing::HasSubstr(c.message)) << run;
    EXPECT_TRUE(c.code == kAnyError ? outcome.code != 0 : outcome.code == c.code) << run;
    EXPECT_THAT(train_with(run, {}), EndsWithCode(0, c.resumed)) << run;
    expect_same_end(run, "whole", kSteps);
  }
}

TEST_F(Inject, OfNanOnOneRankSkipsTheStepOnAll) {
  EXPECT_THAT(train_with("run", {"nan@5:1"}), EndsWithCode(0, "step 5 skipped: loss nan"));
  EXPECT_EQ(metrics("run").back().at("step"), kSteps);
  EXPECT_THAT(
      train_with("streak", {"nan@5:1", "nan@6:1", "nan@7:0"}, {"train.max_skipped_steps=2"}),
      EndsWithCode(6, "3 steps in a row"));
  EXPECT_TRUE(has("streak/checkpoints/step_3"));
  EXPECT_FALSE(has("streak/checkpoints/step_6"));
}

TEST_F(Inject, OfAFullDiskLeavesNothingHalfWritten) {
  EXPECT_THAT(train_with("run", {"disk_full@6:0"}), EndsWithCode(7, "No space left on device"));
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(file("run/checkpoints")))
    folders += entry.is_directory();
  EXPECT_EQ(folders, 1) << "step_3 alone";
}

TEST_F(Inject, RefusesWhatItDoesNotKnow) {
  for (const char* fault : {"boom@1:0", "die@0:0", "die@1:1", "die@1", "die@1:0x"}) {
    EXPECT_THAT(train({.run = "run", .extra = {"--inject", fault}}),
                EndsWithCode(2, "expected KIND@STEP:RANK with a KIND of die, segfault"))
        << fault;
  }
  EXPECT_EQ(call({"train", "--help"}).output.find("inject"), std::string::npos);
}

}  // namespace
}  // namespace switchyard::testing
