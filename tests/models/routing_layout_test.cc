// Every router, drop policy and loss trained on one rank and on several: the same numbers; and the
// same with recompute, bit by bit.

#include <ATen/Parallel.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 4;

struct Case {
  const char* name;
  const char* moe;  // merged over the tiny model's
};

config::RunConfig config_of(const Case& with) {
  config::RunConfig config = tiny_config();
  config::Moe changes;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(with.moe, &changes)) << with.name;
  config.mutable_model()->mutable_moe()->MergeFrom(changes);
  config.mutable_train()->set_global_batch(16);
  config.mutable_train()->set_accumulation(2);
  return config;
}

TrainingTrace alone(const config::RunConfig& config) {
  const auto world = parallel::make_single();
  return train_tiny(config, *world, kSteps);
}

TrainingTrace on_ranks(config::RunConfig config, int ranks, int expert) {
  config.mutable_mesh()->set_expert(expert);
  TrainingTrace trace;
  parallel::ThreadGroup(ranks).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    TrainingTrace own = train_tiny(config, world, kSteps);
    if (world.rank() == 0) trace = std::move(own);
  });
  return trace;
}

void expect_same(const TrainingTrace& actual, const TrainingTrace& expected, double tolerance) {
  const auto series = [](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble);
  };
  EXPECT_TRUE(is_near(series(actual.losses), series(expected.losses), tolerance)) << "losses";
  EXPECT_TRUE(is_near(series(actual.balance), series(expected.balance), tolerance)) << "balance";
  EXPECT_EQ(actual.dropped, expected.dropped);
  for (const auto& [name, gradient] : expected.gradients) {
    EXPECT_TRUE(is_near(actual.gradients.at(name), gradient, tolerance)) << "gradient of " << name;
    EXPECT_TRUE(is_near(actual.weights.at(name), expected.weights.at(name), tolerance))
        << "weight " << name;
  }
}

struct RoutingLayout : ::testing::TestWithParam<Case> {};

TEST_P(RoutingLayout, IsTheSameOnOneRankAndOnSeveral) {
  const auto config = config_of(GetParam());
  const TrainingTrace expected = alone(config);
  expect_same(on_ranks(config, 2, 2), expected, 1e-10);
  expect_same(on_ranks(config, 4, 2), expected, 1e-10);
}

TEST_P(RoutingLayout, IsTheSameWithRecompute) {
  auto config = config_of(GetParam());
  const TrainingTrace plain = alone(config);
  config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
  expect_same(alone(config), plain, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Routers, RoutingLayout,
    ::testing::Values(
        Case{"NoisyTopK",
             "router { noise: LEARNED_NOISE input_dropout: 0.1 } importance_loss_coefficient: 0.1 "
             "load_loss_coefficient: 0.1"},
        Case{"DeepSeekV3",
             "router { score: SIGMOID selection_bias: true bias_update_rate: 0.01 num_groups: 2 "
             "group_top_k: 1 group_score_experts: 2 } "
             "balance_loss { statistics: PER_SEQUENCE load: UNBIASED_CHOICES }"},
        Case{"DeepSeekV2",
             "router { num_groups: 2 group_top_k: 2 group_score_experts: 1 weighting: RAW } "
             "num_devices: 2 capacity { policy: DEVICE_BUDGET train_factor: 1 exempt_share: 0.3 } "
             "balance_loss { statistics: PER_SEQUENCE device_coefficient: 0.05 "
             "communication_coefficient: 0.02 }"},
        Case{"Sampled", "router { selection: SAMPLED }"},
        Case{"Hash", "router { selection: HASH }"},
        Case{"SampledSecond",
             "router { second_choice: SAMPLED_SECOND } balance_loss { second_place: true load: "
             "FIRST_CHOICE }"},
        Case{"StMoe",
             "top_k: 3 router { second_choice: AT_RANDOM second_choice_threshold: 0.5 "
             "later_choice_threshold: 0.3 } layer_aggregation: MEAN_OVER_LAYERS"},
        Case{"Pooled", "layer_aggregation: POOLED_LAYERS balance_loss { load: TOKENS_CHOOSING }"},
        Case{"ByProbability",
             "capacity { policy: BY_PROBABILITY train_factor: 0.7 counts_k: true }"},
        Case{"AtRandomOrder",
             "capacity { policy: AT_RANDOM_ORDER train_factor: 0.7 counts_k: true }"},
        Case{
            "NextFree",
            "capacity { policy: NEXT_FREE train_factor: 0.7 rounds: 3 } router { weighting: RAW }"},
        Case{"ExpertChoice",
             "router { selection: EXPERT_CHOICE weighting: RAW score: SOFTMAX_OVER_TOKENS } "
             "capacity { policy: BY_PROBABILITY train_factor: 1 counts_k: true }"},
        Case{"Sinkhorn", "router { selection: SINKHORN }"},
        Case{"TwoLevel",
             "top_k: 2 router { hierarchy: TWO_LEVEL num_groups: 2 group_top_k: 1 noise: "
             "LEARNED_NOISE } importance_loss_coefficient: 0.1 load_loss_coefficient: 0.1 "
             "z_loss_coefficient: 0"},
        Case{"ByImportance",
             "top_k: 4 router { hierarchy: TWO_LEVEL_BY_IMPORTANCE num_groups: 2 group_top_k: 2 } "
             "balance_loss { load: FIRST_CHOICE } z_loss_coefficient: 0"},
        Case{"StrictlyBalanced",
             "router { selection: STRICTLY_BALANCED weighting: RENORMALIZE_KEPT } "
             "capacity { policy: BY_PROBABILITY train_factor: 1 counts_k: true }"},
        Case{"BalancedAssignment",
             "top_k: 1 router { selection: BALANCED_ASSIGNMENT weighting: RAW }"},
        Case{"RenormalizeKept",
             "router { weighting: RENORMALIZE_KEPT } "
             "capacity { policy: BY_POSITION train_factor: 0.7 counts_k: true }"}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace switchyard::testing
