#pragma once
// Every router, drop policy and loss, as changes to the tiny model, for checks of layouts and
// draws.

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "tests/testing/tiny_model.h"

namespace switchyard::testing {

struct RouterCase {
  const char* name;
  const char* moe;     // merged over the tiny model's
  bool draws = false;  // whether training passes of different steps draw different numbers
};
inline void PrintTo(const RouterCase& with, std::ostream* out) { *out << with.name; }

inline config::RunConfig config_of(const RouterCase& with) {
  config::RunConfig config = tiny_config();
  config::Moe changes;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(with.moe, &changes)) << with.name;
  config.mutable_model()->mutable_moe()->MergeFrom(changes);
  config.mutable_train()->set_global_batch(16);
  config.mutable_train()->set_accumulation(2);
  return config;
}

constexpr RouterCase kRouterCases[] = {
    RouterCase{"NoisyTopK",
               "router { noise: LEARNED_NOISE } importance_loss_coefficient: 0.1 "
               "load_loss_coefficient: 0.1",
               true},
    RouterCase{"FixedNoise",
               "router { noise: FIXED_NOISE noise_std: 0.25 } importance_loss_coefficient: 0.1 "
               "load_loss_coefficient: 0.1",
               true},
    RouterCase{"InputJitter", "router { input_jitter: 0.1 }", true},
    RouterCase{"InputDropout", "router { input_dropout: 0.1 }", true},
    RouterCase{"ExpertDropout", "expert_dropout: 0.1", true},
    RouterCase{"DeepSeekV3",
               "router { score: SIGMOID selection_bias: true bias_update_rate: 0.01 num_groups: 2 "
               "group_top_k: 1 group_score_experts: 2 } "
               "balance_loss { statistics: PER_SEQUENCE load: UNBIASED_CHOICES }"},
    RouterCase{
        "DeepSeekV2",
        "router { num_groups: 2 group_top_k: 2 group_score_experts: 1 weighting: RAW } "
        "num_devices: 2 capacity { policy: DEVICE_BUDGET train_factor: 1 exempt_share: 0.3 } "
        "balance_loss { statistics: PER_SEQUENCE device_coefficient: 0.05 "
        "communication_coefficient: 0.02 }",
        true},
    RouterCase{"DeepExperts", "hidden_layers: 3 ffn: RELU"},
    RouterCase{"Sampled", "router { selection: SAMPLED }", true},
    RouterCase{"Hash", "router { selection: HASH }"},
    RouterCase{"SampledSecond",
               "router { second_choice: SAMPLED_SECOND } balance_loss { second_place: true load: "
               "FIRST_CHOICE }",
               true},
    RouterCase{"StMoe",
               "top_k: 3 router { second_choice: AT_RANDOM second_choice_threshold: 0.5 "
               "later_choice_threshold: 0.3 } layer_aggregation: MEAN_OVER_LAYERS",
               true},
    RouterCase{"AboveThreshold",
               "router { second_choice: ABOVE_THRESHOLD second_choice_threshold: 0.4 }"},
    RouterCase{"FirstAlone", "router { second_choice: NEVER }"},
    RouterCase{"ForcedUniform", "router { selection: FORCED_UNIFORM }"},
    RouterCase{"ForcedSkewed", "router { selection: FORCED_SKEWED }"},
    RouterCase{"Pooled", "layer_aggregation: POOLED_LAYERS balance_loss { load: TOKENS_CHOOSING }"},
    RouterCase{"BatchPrioritized",
               "capacity { policy: BATCH_PRIORITIZED train_factor: 0.7 counts_k: true }"},
    RouterCase{"ByProbability",
               "capacity { policy: BY_PROBABILITY train_factor: 0.7 counts_k: true }"},
    RouterCase{"AtRandomOrder",
               "capacity { policy: AT_RANDOM_ORDER train_factor: 0.7 counts_k: true }", true},
    RouterCase{
        "NextFree",
        "capacity { policy: NEXT_FREE train_factor: 0.7 rounds: 3 } router { weighting: RAW }"},
    RouterCase{"ExpertChoice",
               "router { selection: EXPERT_CHOICE weighting: RAW } "
               "capacity { policy: BY_PROBABILITY train_factor: 1 counts_k: true }"},
    RouterCase{"ExpertChoiceOverTokens",
               "router { selection: EXPERT_CHOICE weighting: RAW score: SOFTMAX_OVER_TOKENS } "
               "capacity { policy: BY_PROBABILITY train_factor: 1 counts_k: true }"},
    RouterCase{"Sinkhorn", "router { selection: SINKHORN }"},
    RouterCase{"TwoLevel",
               "top_k: 2 router { hierarchy: TWO_LEVEL num_groups: 2 group_top_k: 1 noise: "
               "LEARNED_NOISE } importance_loss_coefficient: 0.1 load_loss_coefficient: 0.1 "
               "z_loss_coefficient: 0",
               true},
    RouterCase{
        "ByImportance",
        "top_k: 4 router { hierarchy: TWO_LEVEL_BY_IMPORTANCE num_groups: 2 group_top_k: 2 } "
        "capacity { policy: BY_POSITION train_factor: 0.7 second_level_factor: 1 minimum: 1 "
        "counts_k: "
        "true } balance_loss { load: FIRST_CHOICE } z_loss_coefficient: 0"},
    RouterCase{"StrictlyBalanced",
               "router { selection: STRICTLY_BALANCED weighting: RENORMALIZE_KEPT } "
               "capacity { policy: BY_PROBABILITY train_factor: 1 counts_k: true }"},
    RouterCase{"BalancedAssignment",
               "top_k: 1 router { selection: BALANCED_ASSIGNMENT weighting: RAW }"},
    RouterCase{"RenormalizeKept",
               "router { weighting: RENORMALIZE_KEPT } "
               "capacity { policy: BY_POSITION train_factor: 0.7 counts_k: true }"}};

}  // namespace switchyard::testing
