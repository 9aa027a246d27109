// Values that change during training, in real runs. The oracle is a run without schedules: one that
// has the value from its beginning.

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 6, kSwitch = 3;
using ::testing::HasSubstr;

Arguments joined(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// The number'th schedule, of one point.
Arguments schedule(size_t number, const std::string& field, const std::string& position,
                   const std::string& value, const std::string& approach = "AT_ONCE") {
  const std::string path = fmt::format("schedule[{}].", number);
  return {path + "field=" + field, path + "point[0]." + position, path + "point[0].value=" + value,
          path + "point[0].approach=" + approach};
}

struct Field {
  std::string path, first, later;
};

// Fields that one model can have together, and what it needs for them.
struct Fields {
  Arguments needs;
  std::vector<Field> fields;
};

// Every schedulable field but the batch; coefficients begin at 0.
std::vector<Fields> all_fields() {
  const Fields most{{"optimizer.schedule=CONSTANT", "model.moe.router.selection_bias=true",
                     "model.moe.router.num_groups=2", "model.moe.router.group_top_k=1"},
                    {{"optimizer.lr", "1e-3", "2e-3"},
                     {"optimizer.weight_decay", "0", "0.3"},
                     {"model.output_z_loss_coefficient", "0", "0.1"},
                     {"model.mtp.weight", "0.1", "0.5"},
                     {"model.moe.balance_loss.coefficient", "0", "0.5"},
                     {"model.moe.balance_loss.device_coefficient", "0", "0.25"},
                     {"model.moe.balance_loss.communication_coefficient", "0", "0.125"},
                     {"model.moe.z_loss_coefficient", "0", "0.5"},
                     {"model.moe.router.bias_update_rate", "0", "0.01"}}};
  const Fields noisy{{"model.moe.router.noise=LEARNED_NOISE"},
                     {{"model.moe.importance_loss_coefficient", "0", "0.5"},
                      {"model.moe.load_loss_coefficient", "0", "0.25"}}};
  return {most, noisy};
}

struct ScheduledRun : RunTest {
  void expect_trained_with(const std::string& run, const Arguments& set, int ranks = 1) {
    expect_trained(
        {.run = run, .ranks = ranks, .set = joined({fmt::format("train.steps={}", kSteps)}, set)});
  }
};

// A field whose schedule is not heeded makes the ends differ.
TEST_F(ScheduledRun, TrainsWithTheValuesInForce) {
  int arm = 0;
  for (const Fields& fields : all_fields()) {
    Arguments first = fields.needs, later = fields.needs, at_once, at_switch;
    for (size_t i = 0; i < fields.fields.size(); ++i) {
      const auto& [path, before, after] = fields.fields[i];
      first.push_back(path + "=" + before);
      later.push_back(path + "=" + after);
      const auto at = [&](int step) {
        return schedule(i, path, fmt::format("step={}", step), after);
      };
      at_once = joined(at_once, at(0));
      at_switch = joined(at_switch, at(kSwitch));
    }
    const std::string suffix = std::to_string(arm++);
    expect_trained_with("first" + suffix, first);
    expect_trained_with("later" + suffix, later);
    expect_trained_with("now" + suffix, joined(first, at_once));
    expect_trained_with("switch" + suffix, joined(first, at_switch));
    expect_same_end("now" + suffix, "later" + suffix, kSteps);
    const auto expected = metrics("first" + suffix), actual = metrics("switch" + suffix);
    for (int step = 0; step < kSwitch; ++step) EXPECT_EQ(actual[step], expected[step]);
    EXPECT_NE(actual[kSteps - 1], expected[kSteps - 1]);
  }
}

TEST_F(ScheduledRun, WarmsTheScheduledRateUp) {
  expect_trained_with(
      "run",
      joined({"optimizer.schedule=CONSTANT", "optimizer.lr=1e-3", "optimizer.warmup_steps=2"},
             schedule(0, "optimizer.lr", "tokens=1024", "5e-3", "LINEARLY")));
  const double expected[] = {0.5e-3, 2e-3, 3e-3, 4e-3, 5e-3, 5e-3};  // 256 tokens per step
  const auto records = metrics("run");
  for (int step = 0; step < kSteps; ++step)
    EXPECT_NEAR(records[step]["lr"].get<double>(), expected[step], 1e-12);
}

TEST_F(ScheduledRun, EnlargesTheBatchLikeMoreMicroBatches) {
  for (const int ranks : {1, 2}) {
    const std::string one = fmt::format("one{}", ranks), two = fmt::format("two{}", ranks);
    expect_trained_with(one, {"train.global_batch=16", "train.accumulation=4"}, ranks);
    expect_trained_with(two,
                        joined({"train.global_batch=8", "train.accumulation=2"},
                               schedule(0, "train.global_batch", "step=0", "19")),
                        ranks);
    expect_same_end(two, one, kSteps);
  }
}

struct Ramp {
  const char* unit;
  std::string end;
  int ranks;
  std::vector<int64_t> sequences;  // of the steps
};

TEST_F(ScheduledRun, ResumesAnywhereInARampOfTheBatch) {
  for (const Ramp& ramp : {Ramp{"tokens", "768", 1, {8, 16, 32, 32, 32, 32}},
                           Ramp{"step", "3", 2, {8, 16, 24, 32, 32, 32}}}) {
    const Arguments set =
        joined({"checkpoint.every=1"},
               schedule(0, "train.global_batch", fmt::format("{}={}", ramp.unit, ramp.end), "32",
                        "LINEARLY"));
    const std::string whole = fmt::format("whole_{}", ramp.unit);
    expect_trained_with(whole, set, ramp.ranks);
    const auto records = metrics(whole);
    int64_t tokens = 0;
    for (int step = 0; step < kSteps; ++step) {
      tokens += 32 * ramp.sequences[step];
      EXPECT_EQ(records[step]["tokens"], tokens);
    }
    for (const int stop : {1, 2}) {
      const std::string run = fmt::format("stopped_{}_{}", ramp.unit, stop);
      const Arguments stopped = joined(set, {fmt::format("train.steps={}", kSteps),
                                             fmt::format("train.stop_after_steps={}", stop)});
      EXPECT_EQ(train({.run = run, .ranks = ramp.ranks, .set = stopped}).code, 75);
      expect_trained_with(run, set, ramp.ranks);
      expect_same_end(run, whole, kSteps);
    }
  }
}

TEST_F(ScheduledRun, SaysWhatWillChangeAndWhatAResumeChanged) {
  const auto decay = [](const char* value) {
    return joined({fmt::format("train.steps={}", kSteps)},
                  schedule(0, "optimizer.weight_decay", "step=5", value));
  };
  EXPECT_THAT(train({.run = "run", .set = joined(decay("0.5"), {"train.stop_after_steps=2"})}),
              EndsWithCode(75, "optimizer.weight_decay = 0.1, 0.5 from step 5 on"));
  EXPECT_THAT(train({.run = "run", .set = decay("0.25")}),
              EndsWithCode(0, "changed since the save: schedule[0].point[0].value: 0.5 -> 0.25"));
}

}  // namespace
}  // namespace switchyard::testing
