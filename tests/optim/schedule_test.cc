#include "optim/schedule.h"

#include <cmath>

#include <gtest/gtest.h>

namespace switchyard::optim {
namespace {

constexpr double kPeak = 0.8, kMin = 0.1;
constexpr int64_t kWarmup = 10, kSteps = 111;  // 100 steps from the end of the warm-up to the last
constexpr int64_t kLast = kSteps - 1;
constexpr double kRounding = 1e-15;

config::Optimizer options(config::Schedule schedule) {
  config::Optimizer optimizer;
  optimizer.set_schedule(schedule);
  optimizer.set_lr(kPeak);
  optimizer.set_min_lr(kMin);
  optimizer.set_warmup_steps(kWarmup);
  if (schedule != config::INVERSE_SQRT) optimizer.set_decay_fraction(0.25);
  return optimizer;
}

double rate(config::Schedule schedule, int64_t step) {
  return learning_rate(options(schedule), step, kSteps);
}

struct EverySchedule : testing::TestWithParam<config::Schedule> {};

TEST_P(EverySchedule, WarmsUpLinearlyToThePeak) {
  EXPECT_DOUBLE_EQ(rate(GetParam(), 0), kPeak / kWarmup);
  EXPECT_DOUBLE_EQ(rate(GetParam(), 4), kPeak / 2);
  EXPECT_DOUBLE_EQ(rate(GetParam(), kWarmup - 1), kPeak);
  EXPECT_DOUBLE_EQ(rate(GetParam(), kWarmup), kPeak);
}

TEST_P(EverySchedule, NeverRisesAfterTheWarmUpAndStaysAboveItsMinimum) {
  for (int64_t step = kWarmup; step < 2 * kSteps; ++step) {
    EXPECT_LE(rate(GetParam(), step), rate(GetParam(), step - 1)) << step;
    EXPECT_GE(rate(GetParam(), step), kMin - kRounding) << step;
  }
}

TEST_P(EverySchedule, TakesRunsOfNoneOneAndTwoSteps) {
  for (const int64_t warmup : {0, 1, 5}) {
    for (const int64_t steps : {0, 1, 2}) {
      auto optimizer = options(GetParam());
      optimizer.set_warmup_steps(warmup);
      for (int64_t step = 0; step < 3; ++step) {
        const double value = learning_rate(optimizer, step, steps);
        EXPECT_GE(value, kMin - kRounding) << steps << " steps, step " << step;
        EXPECT_LE(value, kPeak) << steps << " steps, step " << step;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EverySchedule,
                         testing::Values(config::CONSTANT, config::COSINE, config::LINEAR,
                                         config::INVERSE_SQRT, config::CONSTANT_THEN_DECAY),
                         [](const auto& test) { return config::Schedule_Name(test.param); });

TEST(ConstantSchedule, StaysAtThePeak) {
  EXPECT_EQ(rate(config::CONSTANT, kLast), kPeak);
  EXPECT_EQ(rate(config::CONSTANT, 10 * kSteps), kPeak);
}

TEST(CosineSchedule, HasItsClosedForm) {
  EXPECT_NEAR(rate(config::COSINE, kWarmup + 50), (kPeak + kMin) / 2, kRounding);
  EXPECT_NEAR(rate(config::COSINE, kWarmup + 25), kMin + (kPeak - kMin) * (2 + std::sqrt(2)) / 4,
              kRounding);
  EXPECT_NEAR(rate(config::COSINE, kLast), kMin, kRounding);
  EXPECT_NEAR(rate(config::COSINE, 3 * kSteps), kMin, kRounding);
}

TEST(LinearSchedule, FallsByEqualStepsToItsMinimum) {
  EXPECT_NEAR(rate(config::LINEAR, kWarmup + 1), kPeak - 0.007, kRounding);
  EXPECT_NEAR(rate(config::LINEAR, kWarmup + 70), kPeak - 0.49, kRounding);
  EXPECT_NEAR(rate(config::LINEAR, kLast), kMin, kRounding);
  EXPECT_NEAR(rate(config::LINEAR, kSteps), kMin, kRounding);
}

TEST(InverseSqrtSchedule, IsHalfAtFourTimesTheWarmUp) {
  EXPECT_NEAR(rate(config::INVERSE_SQRT, 4 * kWarmup), kPeak / 2, kRounding);
  EXPECT_NEAR(rate(config::INVERSE_SQRT, 16 * kWarmup), kPeak / 4, kRounding);
  EXPECT_EQ(rate(config::INVERSE_SQRT, 1000 * kWarmup), kMin);
}

TEST(InverseSqrtSchedule, HoldsThePeakBeforeItDecays) {
  auto optimizer = options(config::INVERSE_SQRT);
  optimizer.set_hold_steps(3 * kWarmup);
  EXPECT_EQ(learning_rate(optimizer, 4 * kWarmup, kSteps), kPeak);
  EXPECT_NEAR(learning_rate(optimizer, 16 * kWarmup, kSteps), kPeak / 2, kRounding);
}

TEST(InverseSqrtSchedule, IsT5sWithALargeHoldAndNoWarmUp) {
  auto optimizer = options(config::INVERSE_SQRT);
  optimizer.set_lr(0.01);
  optimizer.set_min_lr(0);
  optimizer.set_warmup_steps(0);
  optimizer.set_hold_steps(10'000);
  for (const int64_t step : {0, 9'999, 10'000, 12'345, 1'000'000}) {
    EXPECT_NEAR(learning_rate(optimizer, step, 1'000'001),
                1 / std::sqrt(std::max(static_cast<double>(step), 1e4)), kRounding);
  }
}

TEST(InverseSqrtSchedule, FallsToItsMinimumOverTheLastStepsWhereAsked) {
  auto optimizer = options(config::INVERSE_SQRT);
  const auto plain = [&](int64_t step) { return rate(config::INVERSE_SQRT, step); };
  optimizer.set_decay_fraction(0.1);
  const int64_t begin = 99;  // floor(111 * 0.9)
  EXPECT_EQ(learning_rate(optimizer, begin, kSteps), plain(begin));
  for (const int64_t step : {begin + 1, begin + 6, kLast}) {
    const double left = static_cast<double>(kLast - step) / static_cast<double>(kLast - begin);
    EXPECT_NEAR(learning_rate(optimizer, step, kSteps), kMin + (plain(step) - kMin) * left,
                kRounding);
  }
}

TEST(ConstantThenDecaySchedule, FallsOverTheLastQuarter) {
  const int64_t begin = 83;  // floor(111 * 0.75)
  EXPECT_EQ(rate(config::CONSTANT_THEN_DECAY, begin - 1), kPeak);
  EXPECT_EQ(rate(config::CONSTANT_THEN_DECAY, begin), kPeak);
  EXPECT_NEAR(rate(config::CONSTANT_THEN_DECAY, begin + 9), kPeak - 0.7 / 3, kRounding);
  EXPECT_NEAR(rate(config::CONSTANT_THEN_DECAY, kLast), kMin, kRounding);
  EXPECT_NEAR(rate(config::CONSTANT_THEN_DECAY, 2 * kSteps), kMin, kRounding);
}

TEST(ConstantThenDecaySchedule, DoesNotDecayWithinTheWarmUp) {
  auto optimizer = options(config::CONSTANT_THEN_DECAY);
  optimizer.set_decay_fraction(1);
  EXPECT_EQ(learning_rate(optimizer, kWarmup, kSteps), kPeak);
  EXPECT_NEAR(learning_rate(optimizer, kWarmup + 50, kSteps), (kPeak + kMin) / 2, kRounding);
}

}  // namespace
}  // namespace switchyard::optim
