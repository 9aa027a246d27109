// What the rules about routing refuse, and that they name the reason.

#include <gmock/gmock.h>

#include "core/config/reader.h"
#include "core/config/validate.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using testing::HasSubstr;

class ValidateRouting : public ConfigFiles {
 protected:
  // The rules that break once `change` is set below model.moe; 4 experts, top 2.
  std::string broken(std::vector<std::string> change) {
    for (std::string& field : change) field = "model.moe." + field;
    return error(kSmallRun, change);
  }
};

TEST_F(ValidateRouting, AcceptsThePublishedRouters) {
  EXPECT_EQ(broken({"top_k=1", "router.input_jitter=0.01"}), "");
  EXPECT_EQ(broken({"top_k=4", "router.weighting=RAW"}), "");
  EXPECT_EQ(broken({"top_k=3", "router.second_choice=AT_RANDOM",
                    "router.second_choice_threshold=0.2", "router.later_choice_threshold=0.4"}),
            "");
  EXPECT_EQ(
      broken({"router.noise=LEARNED_NOISE", "router.init_std=0", "importance_loss_coefficient=0.1",
              "load_loss_coefficient=0.1", "balance_loss.coefficient=0"}),
      "");
  EXPECT_EQ(broken({"router.score=SIGMOID", "router.selection_bias=true", "router.num_groups=2",
                    "router.group_top_k=1", "router.group_score_experts=2"}),
            "");
  EXPECT_EQ(broken({"router.selection=HASH"}), "");
  EXPECT_EQ(broken({"router.selection=SAMPLED"}), "");
}

TEST_F(ValidateRouting, ChecksTheWeights) {
  EXPECT_THAT(broken({"top_k=1", "router.weighting=RENORMALIZE"}),
              HasSubstr("the router would get no gradient; use RAW"));
  const std::string kept = "router.weighting=RENORMALIZE_KEPT";
  EXPECT_EQ(broken({kept}), "");
  EXPECT_EQ(broken({kept, "top_k=1", "router.selection=STRICTLY_BALANCED"}), "");
  EXPECT_THAT(broken({"router.weighting=RAW", "router.weight_norm=2"}),
              HasSubstr("weight_norm (2) is set, but only weightings RENORMALIZE"));
}

TEST_F(ValidateRouting, ChecksLaterChoices) {
  EXPECT_THAT(broken({"top_k=1", "router.second_choice=AT_RANDOM"}),
              HasSubstr("there is no second choice"));
  EXPECT_THAT(broken({"router.second_choice=SAMPLED_SECOND", "router.selection_bias=true"}),
              HasSubstr("draws from the scores themselves"));
}

TEST_F(ValidateRouting, ChecksExpertGroups) {
  EXPECT_THAT(broken({"router.num_groups=3", "router.group_top_k=2"}),
              HasSubstr("num_groups (3) must divide model.moe.num_experts (4)"));
  EXPECT_THAT(broken({"router.num_groups=4", "router.group_top_k=1"}),
              HasSubstr("group_top_k (1) groups of 1 experts hold fewer than model.moe.top_k (2)"));
  EXPECT_THAT(broken({"router.num_groups=2", "router.group_top_k=3"}),
              HasSubstr("group_top_k (3) must be at most model.moe.router.num_groups (2)"));
  EXPECT_THAT(broken({"router.num_groups=2", "router.group_score_experts=3"}),
              HasSubstr("group_score_experts (3) must be at most the 2 experts of a group"));
  EXPECT_THAT(
      broken({"router.num_groups=2"}),
      HasSubstr("group_top_k (2) must be below num_groups (2), else a token may choose from "
                "all groups"));
}

TEST_F(ValidateRouting, ChecksTheFixedNoise) {
  const std::string fixed = "router.noise=FIXED_NOISE";
  EXPECT_EQ(broken({fixed, "load_loss_coefficient=0.1"}), "");
  EXPECT_EQ(load_config(run(kSmallRun), {"model.moe." + fixed}).model().moe().router().noise_std(),
            0.25);  // of four experts
  EXPECT_THAT(broken({fixed, "router.noise_std=0"}),
              HasSubstr("noise_std (0) must be above 0 and at most 1"));
  EXPECT_THAT(broken({"router.noise_std=0.1"}),
              HasSubstr("noise_std (0.1) is set, but only noise FIXED_NOISE"));
  EXPECT_THAT(broken({"router.noise=LEARNED_NOISE", "router.noise_std=0.1"}),
              HasSubstr("noise_std (0.1) is set, but only noise FIXED_NOISE"));
}

TEST_F(ValidateRouting, ChecksThePrecision) {
  const std::string coarse = "router.precision=ROUTER_BF16";
  EXPECT_EQ(broken({coarse}), "");
  EXPECT_EQ(load_config(run(kSmallRun)).model().moe().router().precision(), ROUTER_FP32);
  EXPECT_THAT(broken({coarse, "router.selection=HASH"}),
              HasSubstr("precision (ROUTER_BF16) is set, but weighting EQUAL has no router"));
}

TEST_F(ValidateRouting, ChecksThatLossesCanMoveSomething) {
  EXPECT_THAT(broken({"router.noise=LEARNED_NOISE", "load_loss_coefficient=0.1", "top_k=4"}),
              HasSubstr("every expert has every token"));
}

TEST_F(ValidateRouting, ChecksTheDeviceGroups) {
  EXPECT_EQ(broken({"num_devices=2", "balance_loss.device_coefficient=0.05",
                    "capacity.policy=DEVICE_BUDGET"}),
            "");
  EXPECT_THAT(broken({"capacity.policy=DEVICE_BUDGET"}),
              HasSubstr("num_devices (1) must be at least 2"));
  EXPECT_THAT(broken({"num_devices=3"}),
              HasSubstr("num_devices (3) must divide model.moe.num_experts (4)"));
  EXPECT_THAT(broken({"num_devices=2", "balance_loss.communication_coefficient=0.02"}),
              HasSubstr("must be used with router.num_groups (1) equal to num_devices (2)"));
}

TEST_F(ValidateRouting, RefusesWhatOtherArchitecturesDoNotServe) {
  const auto of_lstm = [&](const std::string& change) {
    return error(kSmallRun, {"model.architecture=LSTM_LM", change});
  };
  EXPECT_THAT(of_lstm("model.moe.router.selection=HASH"), Not(HasSubstr("HASH")));
}

TEST_F(ValidateRouting, ChecksExpertChoice) {
  EXPECT_THAT(broken({"router.selection=EXPERT_CHOICE", "capacity.policy=NO_DROP"}),
              HasSubstr("capacity.policy (NO_DROP) must be BY_PROBABILITY"));
  EXPECT_THAT(broken({"router.selection=EXPERT_CHOICE", "router.weighting=RENORMALIZE"}),
              HasSubstr("weighting (RENORMALIZE) must be RAW"));
  EXPECT_THAT(broken({"router.selection=EXPERT_CHOICE", "balance_loss.coefficient=0.01"}),
              HasSubstr("every expert takes the same number of tokens"));
}

TEST_F(ValidateRouting, AllowsBalanceLossesWhereTheDecoderBesideAnEncodersExpertsChoosesByToken) {
  const auto of = [&](const std::vector<std::string>& change) {
    std::vector<std::string> all = {"model.architecture=ENCODER_DECODER",
                                    "model.moe.router.selection=EXPERT_CHOICE"};
    all.insert(all.end(), change.begin(), change.end());
    return all;
  };
  const std::string wanted = "model.moe.balance_loss.coefficient=0.02",
                    ahead = "model.moe.allow_future=true";
  EXPECT_EQ(error(kSmallRun, of({wanted})), "");
  const auto coefficient = [&](const std::vector<std::string>& change) {
    return load_config(run(kSmallRun), of(change)).model().moe().balance_loss().coefficient();
  };
  EXPECT_EQ(coefficient({}), 0.01);
  EXPECT_EQ(coefficient({ahead}), 0);
}

TEST_F(ValidateRouting, GivesExpertsThatChooseTheSameCapacityInEvaluationUnlessItIsSet) {
  const auto factors = [&](std::vector<std::string> change) {
    change.insert(change.end(), {"model.moe.router.selection=EXPERT_CHOICE",
                                 "model.architecture=ENCODER_DECODER"});
    const auto config = load_config(run(kSmallRun), change);
    const Capacity& capacity = config.model().moe().capacity();
    return std::pair(capacity.train_factor(), capacity.eval_factor());
  };
  EXPECT_EQ(factors({}), std::pair(1.25, 1.25));
  EXPECT_EQ(factors({"model.moe.capacity.train_factor=2.5"}), std::pair(2.5, 2.5));
  EXPECT_EQ(factors({"model.moe.capacity.eval_factor=4"}), std::pair(1.25, 4.0));
}

TEST_F(ValidateRouting, ChecksTheRoundsOfTheNextFreeExpert) {
  EXPECT_THAT(broken({"capacity.policy=NEXT_FREE", "capacity.rounds=5"}),
              HasSubstr("rounds (5) must be at most model.moe.num_experts (4)"));
  const std::string policy = "capacity.policy=NEXT_FREE", hash = "router.selection=HASH";
  EXPECT_EQ(broken({policy, hash, "router.weighting=RAW"}), "");
}

TEST_F(ValidateRouting, CountsTheRoundsAgainstTheGroups) {
  const std::string policy = "capacity.policy=NEXT_FREE", groups = "router.num_groups=2";
  EXPECT_THAT(
      broken({policy, groups, "router.group_top_k=1", "capacity.rounds=3"}),
      HasSubstr("group_top_k (1) groups of 2 experts hold fewer than "
                "model.moe.capacity.rounds (3) experts; raise group_top_k or lower rounds"));
  EXPECT_EQ(broken({policy, groups, "router.group_top_k=1", "capacity.rounds=2"}), "");
  EXPECT_EQ(broken({policy, groups, "router.group_top_k=1", "top_k=3", "capacity.rounds=1"}), "");
}

TEST_F(ValidateRouting, RefusesCapacityWhereNothingIsDropped) {
  EXPECT_THAT(broken({"capacity.train_factor=1.5"}),
              HasSubstr("capacity.train_factor (1.5) is set, but policy NO_DROP has no capacity"));
  EXPECT_EQ(broken({"capacity.train_factor=1.5", "capacity.policy=BY_POSITION"}), "");
}

TEST_F(ValidateRouting, RefusesFactorsBesideFixedSlots) {
  const char* policy = "capacity.policy=BY_POSITION";
  EXPECT_EQ(broken({policy, "capacity.fixed_slots=4"}), "");
  EXPECT_THAT(broken({policy, "capacity.fixed_slots=4", "capacity.train_factor=2"}),
              HasSubstr("and model.moe.capacity.fixed_slots is 4; leave it out"));
}

TEST_F(ValidateRouting, ChecksTheTwoLevelGate) {
  EXPECT_EQ(broken({"router.hierarchy=TWO_LEVEL", "router.num_groups=2"}), "");
  EXPECT_EQ(broken({"router.hierarchy=TWO_LEVEL", "router.num_groups=2",
                    "router.noise=LEARNED_NOISE", "load_loss_coefficient=0.1"}),
            "");
  EXPECT_THAT(broken({"router.hierarchy=TWO_LEVEL", "router.num_groups=2", "top_k=3"}),
              HasSubstr("needs a model.moe.top_k (3) that group_top_k (2) divides"));
  EXPECT_THAT(broken({"router.hierarchy=TWO_LEVEL", "router.num_groups=2", "top_k=4",
                      "router.group_top_k=1"}),
              HasSubstr("asks 4 experts of each chosen group, which has 2"));
}

TEST_F(ValidateRouting, TwoLevelsByImportanceDropByPosition) {
  const char *hierarchy = "router.hierarchy=TWO_LEVEL_BY_IMPORTANCE",
             *groups = "router.num_groups=2";
  EXPECT_EQ(broken({hierarchy, groups, "capacity.policy=BY_POSITION"}), "");
}

TEST_F(ValidateRouting, GroupsOfTokensAreNotSequences) {
  const char* most = "capacity.max_group_tokens=64";
  EXPECT_EQ(broken({most, "balance_loss.statistics=PER_GROUP"}), "");
}

TEST_F(ValidateRouting, ChecksBalancedSelections) {
  EXPECT_EQ(broken({"router.selection=STRICTLY_BALANCED"}), "");
  EXPECT_THAT(broken({"router.selection=STRICTLY_BALANCED", "router.weighting=RENORMALIZE"}),
              HasSubstr("weighting (RENORMALIZE) must be RENORMALIZE_KEPT"));
  EXPECT_THAT(broken({"router.selection=STRICTLY_BALANCED", "capacity.policy=BY_POSITION"}),
              HasSubstr("capacity.policy (BY_POSITION) must be BY_PROBABILITY"));
  EXPECT_EQ(broken({"router.selection=BALANCED_ASSIGNMENT", "top_k=1"}), "");
}

}  // namespace
}  // namespace switchyard::config
