// Every family's tiny preset through the binary on real text: thirty steps lower the loss, and a
// stopped run ends with the bytes of one that was not.

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

constexpr int kPreempted = 75, kSteps = 30;

std::vector<std::string> tiny_presets() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("configs/models")) {
    const std::string name = entry.path().stem().string();
    if (name.ends_with("_tiny")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

struct TinyPreset : RunTest, ::testing::WithParamInterface<std::string> {
  std::string config() {
    const std::string prefix = tokenize_documents(), path = file("run.textproto");
    write_file(path, fmt::format(R"(seed: 2
model_preset: "{}"
data {{ tokenizer: "bytes" sequence_length: 64 train {{ path: "{}" }} }}
train {{ steps: {} global_batch: 8 }}
optimizer {{ lr: 5e-3 warmup_steps: 5 }}
log {{ every: 1 }}
)",
                                 GetParam(), prefix, kSteps));
    return path;
  }
  double mean_loss(int first) const {  // of five steps
    const auto losses = this->losses("whole");
    double sum = 0;
    for (int step = first; step < first + 5; ++step) sum += losses.at(step) / 5;
    return sum;
  }
};

TEST_P(TinyPreset, LearnsRealTextAndResumesToTheSameBytes) {
  const std::string config = this->config();
  expect_trained({.run = "whole", .config = config});
  EXPECT_LT(mean_loss(kSteps - 4), mean_loss(1) - 0.3);
  EXPECT_THAT(train({.run = "stopped", .set = {"train.stop_after_steps=11"}, .config = config}),
              EndsWithCode(kPreempted, "saved"));
  expect_trained({.run = "stopped", .config = config});
  expect_same_end("stopped", "whole", kSteps);
}

INSTANTIATE_TEST_SUITE_P(Models, TinyPreset, ::testing::ValuesIn(tiny_presets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace switchyard::testing
