// The same training on one rank and on several, over every mesh: the promise that a layout changes
// nothing but speed. Ranks are threads here; training_dist_test.cc does the same with MPI
// processes.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/testing/tiny_model.h"
#include "tests/testing/train_tiny.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 20;

TrainingTrace alone(const config::RunConfig& config) { return train_alone(config, kSteps); }

TrainingTrace on_ranks(const config::RunConfig& config, int ranks) {
  return train_on_threads(config, ranks, kSteps);
}

// Capacity by position that drops, under random perturbation of the router's input.
void drop_with_jitter(config::Moe& moe) {
  moe.mutable_capacity()->set_policy(config::BY_POSITION);
  moe.mutable_capacity()->set_train_factor(1.0);
  moe.mutable_capacity()->set_counts_k(true);
  moe.mutable_router()->set_input_jitter(0.05);
}

struct Layout {
  int ranks, expert, tensor = 1, expert_tensor = 1;
};

struct LayoutInvariance : ::testing::TestWithParam<Layout> {
  config::RunConfig on_mesh(config::RunConfig config) const {
    config.mutable_mesh()->set_expert(GetParam().expert);
    config.mutable_mesh()->set_tensor(GetParam().tensor);
    config.mutable_mesh()->set_expert_tensor(GetParam().expert_tensor);
    return config;
  }
};

TEST_P(LayoutInvariance, DroplessTrainingInFloat64) {
  const auto config = tiny_config();
  expect_same_training(on_ranks(on_mesh(config), GetParam().ranks), alone(config), 1e-10);
}

TEST_P(LayoutInvariance, CapacityJitterAndGroupStatisticsInFloat64) {
  auto config = tiny_config();
  config::Moe& moe = *config.mutable_model()->mutable_moe();
  drop_with_jitter(moe);
  moe.mutable_router()->set_second_choice(config::AT_RANDOM);
  moe.mutable_router()->set_second_choice_threshold(0.5);
  moe.mutable_balance_loss()->set_statistics(config::PER_GROUP);
  moe.mutable_balance_loss()->set_load(config::FIRST_CHOICE);
  config.mutable_train()->set_global_batch(16);
  config.mutable_train()->set_accumulation(2);
  const TrainingTrace expected = alone(config);
  EXPECT_GT(expected.dropped.back(), 0);
  expect_same_training(on_ranks(on_mesh(config), GetParam().ranks), expected, 1e-10);
}

TEST_P(LayoutInvariance, OneStepInFloat32) {
  auto config = tiny_config();
  config.mutable_runtime()->set_compute(config::FP32);
  // AdamW's first step has the size of the gradient's sign, and so of the rounding of small ones.
  config.mutable_optimizer()->set_kind(config::SGD);
  const TrainingTrace expected = train_alone(config, 1);
  const TrainingTrace actual = train_on_threads(on_mesh(config), GetParam().ranks, 1);
  expect_same_training(actual, expected, 1e-5);
}

// What training adds around the layers: multi-token prediction, the output z-loss, dropout; and
// experts within attention.
config::RunConfig tiny_with_extras() {
  auto config = tiny_config();
  config.mutable_model()->mutable_mtp()->set_weight(0.3);
  config.mutable_model()->set_output_z_loss_coefficient(0.01);
  config.mutable_model()->mutable_attention()->set_dropout(0.2);
  config.mutable_model()->mutable_attention()->set_switch_projections(true);
  return config;
}

TEST_P(LayoutInvariance, MultiTokenPredictionAndAttentionsExpertsInFloat64) {
  const auto config = tiny_with_extras();
  const TrainingTrace expected = alone(config);
  EXPECT_TRUE(expected.gradients.contains("mtp.layer.moe.experts.w2"));
  EXPECT_TRUE(expected.gradients.contains("layers.1.attention.value.experts.weight"));
  expect_same_training(on_ranks(on_mesh(config), GetParam().ranks), expected, 1e-10);
}

std::string name_of(const ::testing::TestParamInfo<Layout>& layout) {
  const auto& [ranks, expert, tensor, expert_tensor] = layout.param;
  return fmt::format("{}ranks{}expert{}tensor{}expert_tensor", ranks, expert, tensor,
                     expert_tensor);
}

INSTANTIATE_TEST_SUITE_P(Meshes, LayoutInvariance,
                         ::testing::Values(Layout{2, 1}, Layout{2, 2}, Layout{4, 1}, Layout{4, 2},
                                           Layout{4, 4}, Layout{8, 4}, Layout{2, 1, 2},
                                           Layout{2, 2, 2}, Layout{4, 2, 2}, Layout{4, 4, 2},
                                           Layout{4, 1, 2}, Layout{2, 1, 1, 2}, Layout{4, 2, 2, 2},
                                           Layout{8, 2, 2, 2}),
                         name_of);

TEST(Recompute, ChangesNeitherRoutingNorAnyNumber) {
  auto config = tiny_config();
  drop_with_jitter(*config.mutable_model()->mutable_moe());
  const TrainingTrace plain = alone(config);
  config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
  expect_same_training(alone(config), plain, 0);
  expect_same_training(on_ranks(config, 2), plain, 1e-10);
}

TEST(Recompute, RepeatsTheDrawsOfAttentionAndMultiTokenPrediction) {
  auto config = tiny_with_extras();
  const TrainingTrace plain = alone(config);
  config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
  expect_same_training(alone(config), plain, 0);
}

TEST(Training, RepeatsBitByBit) {
  auto config = tiny_config();
  config.mutable_runtime()->set_compute(config::BF16);
  expect_same_training(alone(config), alone(config), 0);
}

TEST(Training, LowersTheLoss) {
  const TrainingTrace trace = alone(tiny_config());
  EXPECT_LT(trace.losses.back(), trace.losses.front() - 0.3);
}

}  // namespace
}  // namespace switchyard::testing
