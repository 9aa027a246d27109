// A run's memory: the plan against what processes really take, what is refused before it begins,
// and what happens when the system has no more.

#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

using ::testing::HasSubstr;

struct RunMemory : RunTest {
  std::string config_of(const std::string& preset) const {
    const std::string path = file(preset + ".textproto");
    write_file(path,
               fmt::format("model_preset: \"{}\" data {{ sequence_length: 256 synthetic {{}} "
                           "}} train {{ steps: 10 global_batch: 2 }} runtime {{ threads: 1 }}",
                           preset));
    return path;
  }
};

struct Case {
  const char* preset;
  Arguments set;
};

TEST_F(RunMemory, GrowsAsPlannedWithinAQuarter) {
  for (const Case& c : std::vector<Case>{
           {"mixtral_tiny", {"train.global_batch=8"}},
           {"mixtral_tiny", {"train.global_batch=32", "train.recompute=RECOMPUTE_LAYER"}},
           {"switch_tiny", {"train.global_batch=32"}},  // keeps its scores, for their bias
           {"quickstart", {"runtime.compute=BF16"}},
           {"quickstart", {"train.global_batch=8", "train.recompute=RECOMPUTE_LAYER"}}}) {
    Arguments arguments{"bench", "step", config_of(c.preset), "--steps", "1", "--json"};
    for (const std::string& set : c.set) arguments.insert(arguments.end(), {"--set", set});
    const Outcome outcome = call(arguments);
    ASSERT_EQ(outcome.code, 0) << outcome.output;
    const auto bench = nlohmann::json::parse(outcome.output.substr(outcome.output.find('{')));
    const double taken = bench["memory_bytes"], planned = bench["memory_formula_bytes"];
    std::string name = c.preset;
    for (const std::string& set : c.set) name += " " + set;
    name += fmt::format(": took {:.0f} MiB, planned {:.0f} MiB", taken / (1 << 20),
                        planned / (1 << 20));
    std::puts(name.c_str());
    const double ratio = taken / planned;
    EXPECT_GT(ratio, 0.75) << name;
    EXPECT_LT(ratio, 1.25) << name;
  }
}

TEST_F(RunMemory, IsComparedWithWhatThereIsBeforeTheRunBegins) {
  const TrainCall huge{.run = "huge",
                       .set = {"model.moe.d_ff=16000000", "model.moe.num_experts=64"}};
  const Outcome refused = train(huge);
  EXPECT_THAT(refused,
              EndsWithCode(2, "not enough memory on the machine of rank 0: 1 rank(s) need"));
  for (const char* part : {"are available", "moments", "activations", "train.accumulation",
                           "runtime.check_memory: false"})
    EXPECT_THAT(refused.output, HasSubstr(part));
  EXPECT_FALSE(has_step("huge", 1));
}

// A limit of the address space stands for a full machine: the kernel refuses what it cannot give.
TEST_F(RunMemory, ThatTheSystemRefusesIsAnErrorWithAnAdvice) {
  const std::string command = fmt::format(
      "ulimit -v 4000000; exec '{}/switchyard' train '{}' --set output_dir='{}' "
      "--set model.moe.d_ff=2000000 --set runtime.check_memory=false --set runtime.threads=1",
      std::getenv("SY_TEST_BUILD"), project("configs/debug.textproto"), file(""));
  const Outcome outcome = Process({"/bin/bash", "-c", command}, file("limited.txt")).finish();
  EXPECT_THAT(outcome, EndsWithCode(7, "error[7]: out of memory"));
  EXPECT_THAT(outcome.output, HasSubstr("train.accumulation"));
}

}  // namespace
}  // namespace switchyard::testing
