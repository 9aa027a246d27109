#include "models/moe/placement/capacity.h"

#include <gtest/gtest.h>

namespace switchyard::models {
namespace {

config::Moe moe_of(int experts, int k, double factor) {
  config::Moe moe;
  moe.set_num_experts(experts);
  moe.set_top_k(k);
  moe.mutable_capacity()->set_policy(config::BY_POSITION);
  moe.mutable_capacity()->set_train_factor(factor);
  moe.mutable_capacity()->set_eval_factor(2);
  return moe;
}

TEST(Capacity, CountsKOnlyWhenAskedAndRespectsItsBounds) {
  config::Moe moe = moe_of(8, 2, 1.25);
  moe.mutable_capacity()->set_minimum(4);
  EXPECT_EQ(capacity_of(moe, true, 256), 40);
  moe.mutable_capacity()->set_counts_k(true);
  EXPECT_EQ(capacity_of(moe, true, 256), 80);
  EXPECT_EQ(capacity_of(moe, false, 256), 128);
  moe.set_num_experts(64);
  moe.set_top_k(1);
  EXPECT_EQ(capacity_of(moe, true, 8), 4);
  moe.set_num_experts(2);
  moe.set_top_k(8);
  EXPECT_EQ(capacity_of(moe, false, 100), 100);
}

TEST(Capacity, RoundsAsTheImplementationsDo) {
  config::Moe moe = moe_of(8, 1, 1);
  const auto with = [&](config::Rounding rounding, int64_t tokens) {
    moe.mutable_capacity()->set_rounding(rounding);
    return capacity_of(moe, true, tokens);
  };
  EXPECT_EQ(with(config::ROUND_DOWN, 31), 3);     // 3.875
  EXPECT_EQ(with(config::ROUND_UP, 25), 4);       // 3.125
  EXPECT_EQ(with(config::ROUND_NEAREST, 20), 2);  // 2.5: half to even
  EXPECT_EQ(with(config::ROUND_NEAREST, 28), 4);  // 3.5
}

TEST(Capacity, IsRaisedToAMultiple) {
  config::Moe moe = moe_of(8, 1, 1);
  moe.mutable_capacity()->set_multiple_of(4);
  EXPECT_EQ(capacity_of(moe, true, 40), 8);
  EXPECT_EQ(capacity_of(moe, true, 64), 8);
}

TEST(Capacity, MayBeAConstant) {
  config::Moe moe = moe_of(8, 1, 1);
  moe.mutable_capacity()->set_fixed_slots(64);
  EXPECT_EQ(capacity_of(moe, true, 40), 64);
  EXPECT_EQ(capacity_of(moe, false, 4000), 64);
}

TEST(Capacity, OfADeviceIsItsShareOfAllAssignments) {
  config::Moe moe = moe_of(8, 3, 1);
  moe.set_num_devices(4);
  EXPECT_EQ(device_budget(moe, 10), 7);  // 30 / 4
}

TEST(Capacity, PoliciesThatDrawGiveWayInEvaluation) {
  config::Moe moe;
  config::Capacity& capacity = *moe.mutable_capacity();
  capacity.set_policy(config::AT_RANDOM_ORDER);
  EXPECT_EQ(policy_of(moe, true), config::AT_RANDOM_ORDER);
  EXPECT_EQ(policy_of(moe, false), config::BY_POSITION);
  capacity.set_policy(config::DEVICE_BUDGET);
  EXPECT_EQ(policy_of(moe, false), config::NO_DROP);
  capacity.set_policy(config::BY_PROBABILITY);
  EXPECT_EQ(policy_of(moe, false), config::BY_PROBABILITY);
  moe.mutable_router()->set_selection(config::STRICTLY_BALANCED);
  EXPECT_EQ(policy_of(moe, false), config::NO_DROP);
}

// Mesh-TensorFlow: floor(64 / 4 * 1.25) rows of a group, floor(20 / 8 * 1) = 2 of an expert, but
// at least 4.
TEST(Capacity, OfTwoLevelsIsThatOfAGroupThenOfItsExperts) {
  config::Moe moe;
  moe.set_num_experts(32);
  moe.set_top_k(4);
  moe.mutable_router()->set_num_groups(4);
  moe.mutable_router()->set_group_top_k(2);
  moe.mutable_capacity()->set_train_factor(1.25);
  moe.mutable_capacity()->set_second_level_factor(1);
  EXPECT_EQ(capacity_of_group(moe, true, 64), 20);
  EXPECT_EQ(capacity_within_group(moe, 20), 2);
  moe.mutable_capacity()->set_counts_k(true);
  EXPECT_EQ(capacity_of_group(moe, true, 64), 40);
  EXPECT_EQ(capacity_within_group(moe, 40), 10);
  moe.mutable_capacity()->set_minimum(16);
  EXPECT_EQ(capacity_within_group(moe, 40), 16);
}

TEST(Capacity, WithoutLimitsHasRoomForEveryToken) {
  for (const auto policy : {config::BY_POSITION, config::BATCH_PRIORITIZED, config::BY_PROBABILITY,
                            config::AT_RANDOM_ORDER, config::DEVICE_BUDGET, config::NO_DROP}) {
    config::Moe moe = moe_of(8, 2, 1);
    moe.mutable_capacity()->set_policy(policy);
    EXPECT_EQ(policy_of(without_limits(moe), false), config::NO_DROP) << policy;
  }
  config::Moe moe = moe_of(8, 1, 1);
  moe.mutable_capacity()->set_policy(config::NEXT_FREE);
  EXPECT_EQ(policy_of(without_limits(moe), false), config::NEXT_FREE);
  EXPECT_GE(capacity_of(without_limits(moe), false, 1), 1 << 30);
}

TEST(Capacity, WithoutLimitsIsThatOfEvaluationForExpertsThatChooseButNeverNothing) {
  config::Moe moe = moe_of(8, 1, 1);
  moe.mutable_capacity()->set_policy(config::BY_PROBABILITY);
  moe.mutable_router()->set_selection(config::EXPERT_CHOICE);
  EXPECT_EQ(policy_of(without_limits(moe), false), config::BY_PROBABILITY);
  EXPECT_EQ(capacity_of(without_limits(moe), false, 24), 6);
  EXPECT_EQ(capacity_of(moe, false, 3), 0);
  EXPECT_EQ(capacity_of(without_limits(moe), false, 3), 1);
}

}  // namespace
}  // namespace switchyard::models
