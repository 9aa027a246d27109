// Every router, drop policy and loss trained on one rank and on several: the same numbers; and the
// same with recompute, bit by bit.

#include <gtest/gtest.h>

#include "tests/models/router_cases.h"
#include "tests/testing/near.h"
#include "tests/testing/train_tiny.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 4;

TrainingTrace alone(const config::RunConfig& config) { return train_alone(config, kSteps); }

TrainingTrace on_ranks(config::RunConfig config, int ranks, int expert) {
  config.mutable_mesh()->set_expert(expert);
  return train_on_threads(config, ranks, kSteps);
}

struct RoutingLayout : ::testing::TestWithParam<RouterCase> {};

TEST_P(RoutingLayout, IsTheSameOnOneRankAndOnSeveral) {
  const auto config = config_of(GetParam());
  const TrainingTrace expected = alone(config);
  expect_same_training(on_ranks(config, 2, 2), expected, 1e-10);
  expect_same_training(on_ranks(config, 4, 2), expected, 1e-10);
}

TEST_P(RoutingLayout, IsTheSameWithRecompute) {
  auto config = config_of(GetParam());
  const TrainingTrace plain = alone(config);
  config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
  expect_same_training(alone(config), plain, 0);
}

// Of 64 experts some get no token on one rank, and some on none.
TEST(DeadExperts, AreRevivedAlikeOnOneRankAndOnSeveral) {
  auto config = tiny_config();
  config::Moe& moe = *config.mutable_model()->mutable_moe();
  moe.set_num_experts(64);
  moe.mutable_router()->set_selection(config::FORCED_SKEWED);
  config.mutable_log()->set_dead_after_steps(1);
  const TrainingTrace left_alone = alone(config);
  moe.set_dead_expert_action(config::REINITIALIZE);
  moe.set_dead_expert_noise(0.1);
  const TrainingTrace revived = alone(config);
  const char* weight = "layers.0.moe.experts.w2";
  EXPECT_FALSE(is_near(revived.weights.at(weight), left_alone.weights.at(weight), 1e-3));
  expect_same_training(on_ranks(config, 4, 2), revived, 1e-10);
}

INSTANTIATE_TEST_SUITE_P(Routers, RoutingLayout, ::testing::ValuesIn(kRouterCases),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace switchyard::testing
