// What every architecture promises: a layout changes nothing but speed, recompute changes nothing
// at all, training lowers the loss.

#include <gtest/gtest.h>

#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"
#include "tests/testing/train_tiny.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 4;

struct Case {
  const char* name;
  config::RunConfig (*config)();
};

struct Architectures : ::testing::TestWithParam<Case> {
  static TrainingTrace alone(const config::RunConfig& config, int steps = kSteps) {
    return train_alone(config, steps);
  }

  static void expect_same(const TrainingTrace& actual, const TrainingTrace& expected,
                          double tolerance) {
    EXPECT_TRUE(is_near(at::tensor(actual.losses, at::kDouble),
                        at::tensor(expected.losses, at::kDouble), tolerance));
    expect_same_parameters(actual, expected, tolerance);
  }

  static void expect_layout_changes_nothing(config::RunConfig config, int ranks, int expert) {
    const TrainingTrace expected = alone(config);
    if (config.model().has_moe()) config.mutable_mesh()->set_expert(expert);
    expect_same(train_on_threads(config, ranks, kSteps), expected, 1e-10);
  }
};

config::RunConfig switch_attention() {
  config::RunConfig config = tiny_encoder_decoder();
  config.mutable_model()->mutable_attention()->set_switch_projections(true);
  config.mutable_model()->mutable_moe()->set_top_k(1);
  config.mutable_model()->mutable_moe()->mutable_router()->set_weighting(config::RAW);
  return config;
}

template <config::RunConfig (*kTiny)()>
config::RunConfig hashed() {
  config::RunConfig config = kTiny();
  config.mutable_model()->mutable_moe()->mutable_router()->set_selection(config::HASH);
  return config;
}

TEST_P(Architectures, TrainAlikeOnTwoRanks) {
  expect_layout_changes_nothing(GetParam().config(), 2, 2);
}

TEST_P(Architectures, TrainAlikeOnFourRanks) {
  expect_layout_changes_nothing(GetParam().config(), 4, 4);
  expect_layout_changes_nothing(GetParam().config(), 4, 2);
}

TEST_P(Architectures, TrainAlikeInMicroBatches) {
  config::RunConfig config = GetParam().config();
  const TrainingTrace whole = alone(config);
  config.mutable_train()->set_accumulation(2);
  // The balance loss's statistics are over a micro-batch.
  if (config.model().has_moe()) {
    config.mutable_model()->mutable_moe()->mutable_balance_loss()->set_statistics(
        config::PER_GROUP);
    config::RunConfig same = GetParam().config();
    same.mutable_model()->mutable_moe()->mutable_balance_loss()->set_statistics(config::PER_GROUP);
    return expect_same(alone(config), alone(same), 1e-10);
  }
  expect_same(alone(config), whole, 1e-10);
}

TEST_P(Architectures, DoNotChangeUnderRecompute) {
  config::RunConfig config = GetParam().config();
  const TrainingTrace plain = alone(config);
  config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
  expect_same(alone(config), plain, 1e-12);
}

TEST_P(Architectures, RepeatBitByBit) {
  expect_same(alone(GetParam().config()), alone(GetParam().config()), 0);
}

TEST_P(Architectures, LowerTheLoss) {
  config::RunConfig config = GetParam().config();
  config.mutable_model()->set_dropout(0);
  const TrainingTrace trace = alone(config, 60);
  const auto mean = [&](size_t first) {
    double sum = 0;
    for (size_t i = first; i < first + 10; ++i) sum += trace.losses[i] / 10;
    return sum;
  };
  EXPECT_LT(mean(50), 0.9 * mean(0));
}

INSTANTIATE_TEST_SUITE_P(
    All, Architectures,
    ::testing::Values(Case{"lstm_lm", tiny_lstm_lm}, Case{"encoder_decoder", tiny_encoder_decoder},
                      Case{"switch_attention", switch_attention},
                      Case{"hashed_lstm_lm", hashed<tiny_lstm_lm>},
                      Case{"hashed_encoder_decoder", hashed<tiny_encoder_decoder>},
                      Case{"local_experts", tiny_local_experts}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace switchyard::testing
