// Values that change during training: what they are when, and which schedules are refused.

#include "core/config/schedule.h"

#include <gmock/gmock.h>

#include "core/config/print.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

class Schedules : public ConfigFiles {
 protected:
  // kSmallRun with these lines at its end.
  static std::string with(const std::string& lines) { return kSmallRun + lines; }
  static std::string schedule(const std::string& field, const std::string& points) {
    return "schedule { field: \"" + field + "\" " + points + " }\n";
  }
  std::string refusal(const std::string& field, const std::string& points,
                      const std::vector<std::string>& overrides = {}) {
    return error(with(schedule(field, points)), overrides);
  }
  RunConfig load(const std::string& lines, const std::vector<std::string>& overrides = {}) {
    return load_config(run(with(lines)), overrides);
  }
};

constexpr char kDecay[] = "optimizer.weight_decay";

TEST_F(Schedules, JumpGoStraightAndFollowACosineFromPointToPoint) {
  const RunConfig config = load(schedule(kDecay,
                                         "point { step: 4 value: 8 } "
                                         "point { step: 8 value: 4 approach: LINEARLY } "
                                         "point { step: 12 value: 0 approach: BY_COSINE }"),
                                {"optimizer.weight_decay=2"});
  const auto at = [&](int64_t step) {
    return in_force(config, {step, 1000 * step}).optimizer().weight_decay();
  };
  EXPECT_EQ(at(0), 2);
  EXPECT_EQ(at(3), 2);
  EXPECT_EQ(at(4), 8);
  EXPECT_EQ(at(5), 7);
  EXPECT_EQ(at(7), 5);
  EXPECT_EQ(at(8), 4);
  EXPECT_NEAR(at(9), 4 * (1 + std::sqrt(0.5)) / 2, 1e-15);
  EXPECT_NEAR(at(10), 2, 1e-15);
  EXPECT_EQ(at(12), 0);
  EXPECT_EQ(at(1'000'000), 0);
}

TEST_F(Schedules, GoToTheirFirstPointFromTheFieldsValueAtTheBeginning) {
  const RunConfig config =
      load(schedule(kDecay, "point { tokens: 1000 value: 3 approach: LINEARLY }"),
           {"optimizer.weight_decay=1"});
  for (const int64_t tokens : {0, 250, 500, 1000, 2000}) {
    EXPECT_EQ(in_force(config, {7, tokens}).optimizer().weight_decay(),
              1 + 2 * std::min(1.0, static_cast<double>(tokens) / 1000));
  }
}

TEST_F(Schedules, LeaveTheRestOfTheConfigAsItIs) {
  const RunConfig config = load(schedule(kDecay, "point { step: 1 value: 0.5 }"));
  EXPECT_THAT(differences(in_force(load(""), {5, 0}), load("")), IsEmpty());
  const auto changed = differences(load(""), in_force(config, {1, 0}));
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0].text(), "optimizer.weight_decay: 0.1 -> 0.5");
}

TEST_F(Schedules, EnlargeTheBatchByWholeMicroBatches) {
  const RunConfig config =
      load(schedule("train.global_batch", "point { step: 4 value: 40 approach: LINEARLY }"),
           {"train.accumulation=2"});
  const int64_t expected[] = {8, 16, 24, 32, 40, 40};  // 8 + 8 step, exactly
  for (int64_t step = 0; step < 6; ++step) {
    const Train now = in_force(config, {step, 0}).train();
    EXPECT_EQ(now.global_batch(), expected[step]);
    EXPECT_EQ(now.global_batch() / now.accumulation(), 4);
    EXPECT_EQ(global_batch_at(config, {step, 0}), expected[step]);
  }
  const RunConfig odd =
      load(schedule("train.global_batch", "point { step: 10 value: 31 approach: LINEARLY }"));
  EXPECT_EQ(global_batch_at(odd, {3, 0}), 8);    // 14.9
  EXPECT_EQ(global_batch_at(odd, {4, 0}), 16);   // 17.2
  EXPECT_EQ(global_batch_at(odd, {99, 0}), 24);  // 31
  const RunConfig finer =
      load(schedule("train.global_batch", "point { step: 10 value: 31 approach: LINEARLY }"),
           {"train.accumulation=4"});
  EXPECT_EQ(global_batch_at(finer, {3, 0}), 14);
  EXPECT_EQ(in_force(finer, {3, 0}).train().accumulation(), 7);
  EXPECT_EQ(global_batch_at(finer, {99, 0}), 30);
}

TEST_F(Schedules, CountTheSequencesOfAnyNumberOfSteps) {
  const RunConfig config = load(schedule("train.global_batch", "point { step: 6 value: 16 }"),
                                {"train.steps=1000000000000"});
  EXPECT_NEAR(static_cast<double>(sequences_left(config, {0, 0})) * 1e-12, 16, 1e-5);
  EXPECT_EQ(largest_batch(config), 16);
}

TEST_F(Schedules, CountTheSequencesThatAreLeft) {
  EXPECT_EQ(sequences_left(load(""), {4, 0}), 6 * 8);
  const RunConfig by_step = load(
      schedule("train.global_batch", "point { step: 6 value: 16 } point { step: 8 value: 24 }"));
  EXPECT_EQ(sequences_left(by_step, {0, 0}), 6 * 8 + 2 * 16 + 2 * 24);
  EXPECT_EQ(sequences_left(by_step, {7, 0}), 16 + 2 * 24);
  EXPECT_EQ(sequences_left(by_step, {12, 0}), 0);
  // Sequences of 32 tokens: steps of 8, 8, then 24.
  const RunConfig by_tokens =
      load(schedule("train.global_batch", "point { tokens: 512 value: 24 }"));
  EXPECT_EQ(sequences_left(by_tokens, {0, 0}), 2 * 8 + 8 * 24);
}

TEST_F(Schedules, ResolveToTextThatLoadsToTheSame) {
  const RunConfig config = load(schedule(kDecay, "point { step: 1 value: 0.5 }"));
  EXPECT_EQ(config.schedule(0).point(0).approach(), AT_ONCE);
  const RunConfig again = load_config(write("again.textproto", to_text(config)));
  EXPECT_THAT(differences(config, again), IsEmpty());
}

TEST_F(Schedules, AreOfFieldsThatMayChange) {
  EXPECT_THAT(refusal("optimizer.weight_decy", "point { step: 1 value: 0 }"),
              AllOf(HasSubstr("run.textproto:10:"),
                    HasSubstr("schedule[0].field (\"optimizer.weight_decy\") must be a value that "
                              "may change during training; nearest: \"optimizer.weight_decay\"")));
  EXPECT_THAT(refusal("train.steps", "point { step: 1 value: 0 }"),
              HasSubstr("must be a value that may change during training"));
  for (const std::string& field : schedulable_fields()) {
    if (field == "train.global_batch") continue;
    const std::string text = refusal(field, "point { step: 1 value: 0 }");
    EXPECT_EQ(text.find("may change during training"), std::string::npos) << text;
  }
}

TEST_F(Schedules, AreOfFieldsThatTheModelHas) {
  for (const std::string field : {"model.mtp.weight", "model.moe.router.bias_update_rate"})
    EXPECT_THAT(refusal(field, "point { step: 1 value: 0.1 }"),
                HasSubstr("(\"" + field + "\") has no meaning in this config"));
  EXPECT_EQ(refusal("model.mtp.weight", "point { step: 1 value: 0.1 }", {"model.mtp.weight=0.3"}),
            "");
  EXPECT_EQ(refusal("model.moe.router.bias_update_rate", "point { step: 1 value: 0 }",
                    {"model.moe.router.selection_bias=true"}),
            "");
  const std::string dense = kSmallRun.substr(0, kSmallRun.find("  moe")) + "  d_ff: 32\n" +
                            kSmallRun.substr(kSmallRun.find("}\ndata"));
  EXPECT_EQ(error(dense), "");
  EXPECT_THAT(error(dense + schedule("model.moe.z_loss_coefficient", "point { step: 1 value: 1 }")),
              HasSubstr("has no meaning in this config"));
}

TEST_F(Schedules, LeaveTheRateToOneOfThem) {
  const std::string points = "point { step: 1 value: 1e-9 }";
  EXPECT_THAT(refusal("optimizer.lr", points),
              HasSubstr("needs optimizer.schedule CONSTANT, got COSINE"));
  EXPECT_EQ(refusal("optimizer.lr", points, {"optimizer.schedule=CONSTANT"}), "");
}

TEST_F(Schedules, HaveValuesThatTheFieldMayHave) {
  EXPECT_THAT(refusal(kDecay, "point { step: 1 value: 0 } point { step: 2 value: -1 }"),
              HasSubstr("schedule[0].point[1].value (-1) would break a rule: "
                        "optimizer.weight_decay (-1) must be finite and at least 0"));
  EXPECT_THAT(
      refusal("model.moe.load_loss_coefficient", "point { step: 1 value: 0.1 }"),
      HasSubstr(
          "model.moe.load_loss_coefficient (0.1) must be 0 with model.moe.router.noise NO_NOISE"));
  EXPECT_THAT(refusal("train.global_batch", "point { step: 1 value: 7 }"),
              HasSubstr("schedule[0].point[0].value (7) must be at least train.global_batch (8)"));
  EXPECT_THAT(refusal("train.global_batch", "point { step: 1 value: 1e10 }"),
              HasSubstr("and at most 2147483647"));
  EXPECT_THAT(refusal("train.global_batch", "point { step: 1 value: 2e9 }",
                      {"train.steps=1000000000", "optimizer.warmup_steps=0"}),
              HasSubstr("steps * global_batch * sequence_length"));
}

TEST_F(Schedules, HavePointsInOneUnitAndInOrder) {
  const auto points = [&](const std::string& text) { return refusal(kDecay, text); };
  EXPECT_THAT(points("point { value: 1 }"),
              HasSubstr("schedule[0].point[0] must have either step or tokens, got neither"));
  EXPECT_THAT(points("point { step: 1 tokens: 1 value: 1 }"), HasSubstr("got both"));
  EXPECT_THAT(points("point { step: 1 value: 1 } point { tokens: 9 value: 1 }"),
              HasSubstr("point[1].tokens is set, but point[0] of the schedule has step"));
  EXPECT_THAT(points("point { step: -1 value: 1 }"), HasSubstr("(-1) must be at least 0"));
  EXPECT_THAT(points("point { step: 3 value: 1 } point { step: 3 value: 2 }"),
              HasSubstr("point[1].step (3) must be above the point's before (3)"));
}

TEST_F(Schedules, AreComplete) {
  EXPECT_THAT(error(with("schedule { point { step: 1 value: 1 } }")),
              HasSubstr("schedule[0].field is not set"));
  EXPECT_THAT(refusal(kDecay, ""), HasSubstr("schedule[0].point is empty"));
  EXPECT_EQ(refusal(kDecay, "point { step: 1 }"),
            "run.textproto: schedule[0].point[0].value is not set; set the value from there on");
}

TEST_F(Schedules, AreOnePerField) {
  const std::string one = schedule(kDecay, "point { step: 1 value: 0 }");
  EXPECT_THAT(error(with(one + one)),
              HasSubstr("schedule[1].field (\"optimizer.weight_decay\") has schedule[0] already"));
}

}  // namespace
}  // namespace switchyard::config
