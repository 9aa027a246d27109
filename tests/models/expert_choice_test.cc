// Selections that look at a whole routing group: expert choice and Sinkhorn.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "core/tensor/top_k.h"
#include "models/moe/losses/losses.h"
#include "models/moe/placement/placement.h"
#include "models/moe/router/router.h"
#include "models/moe/router/selection.h"
#include "models/moe/rules/balanced_selection.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::integers;
using switchyard::testing::is_near;
using ::testing::Each;
using ::testing::ElementsAre;

struct ExpertChoice : ::testing::Test {
  config::Moe moe;
  StepContext context;
  RouterInput input;

  void SetUp() override {
    moe.set_num_experts(3);
    moe.set_top_k(1);
    moe.mutable_router()->set_score(config::SOFTMAX);
    moe.mutable_router()->set_selection(config::EXPERT_CHOICE);
    moe.mutable_router()->set_weighting(config::RAW);
    moe.mutable_router()->set_route_scale(1);
    moe.mutable_capacity()->set_policy(config::BY_PROBABILITY);
    moe.mutable_capacity()->set_train_factor(1);
    moe.mutable_capacity()->set_counts_k(true);
    context.training = true;
    context.group_tokens = input.context.group_tokens = 6;
    input.logits_TE =
        at::tensor({2., 1., 0., 1.5, 0., .5, 3., 0., 0., 0., 2., 1., 1., .5, 0., 0., .2, .9},
                   at::kDouble)
            .view({6, 3});
  }
  Placement place(const Routing& routing) const { return place_slots(routing, moe, context, {}); }
};

TEST_F(ExpertChoice, EveryExpertTakesItsBestTokens) {
  const Routing routing = route_logits(input, moe, {});
  const Placement placement = place(routing);
  EXPECT_THAT(integers(placement.assignment.order.count_E), Each(2));
  // p of expert 0: .67 .63 .91 .09 .51 .22; 1: .24 .14 .05 .67 .31 .26; 2: .09 .23 .05 .24 .19 .53
  EXPECT_THAT(integers(placement.assignment.order.slot_N), ElementsAre(0, 6, 10, 13, 11, 17));
  EXPECT_TRUE(is_near(routing.weight_TK, input.logits_TE.softmax(-1), 1e-15));
  const RoutingStats stats = numbers_of({sums_of(routing, placement, moe, context)})[0];
  EXPECT_THAT(stats.load, Each(2));
  EXPECT_EQ(stats.dropped, 1);  // token 1
}

TEST_F(ExpertChoice, OverTokensDividesByTheExpertsThatChose) {
  moe.mutable_router()->set_score(config::SOFTMAX_OVER_TOKENS);
  const Routing routing = route_logits(input, moe, {});
  EXPECT_TRUE(is_near(routing.weight_TK, input.logits_TE.softmax(0), 1e-15));
  const Placement placement = place(routing);
  const at::Tensor scale =
      weights_after_drops(at::ones({6, 3}, at::kDouble), kept_slots(placement, moe, at::kDouble),
                          moe.router())
          .select(1, 0);
  for (int64_t t = 0; t < 6; ++t) {
    int64_t chosen = 0;
    for (const int64_t slot : integers(placement.assignment.order.slot_N)) chosen += slot / 3 == t;
    EXPECT_EQ(scale[t].item<double>(), 1.0 / static_cast<double>(std::max<int64_t>(1, chosen)));
  }
}

TEST_F(ExpertChoice, PaddingIsNotChosen) {
  context.is_real_T = first_are_real(4, 6);
  input.context.is_real_T = context.is_real_T;
  for (const auto score : {config::SOFTMAX, config::SOFTMAX_OVER_TOKENS}) {
    moe.mutable_router()->set_score(score);
    const Placement placement = place(route_logits(input, moe, {}));
    for (const int64_t slot : integers(placement.assignment.order.slot_N)) EXPECT_LT(slot, 12);
  }
}

// The coefficient of an encoder-decoder is for its decoder, where tokens choose.
TEST_F(ExpertChoice, HasNoBalanceLossWhateverTheCoefficient) {
  moe.mutable_balance_loss()->set_coefficient(.5);
  moe.mutable_balance_loss()->set_load(config::FIRST_CHOICE);
  context.count.in_step = 6;
  const auto world = parallel::make_single();
  const auto loss = [&] {
    const Routing routing = route_logits(input, moe, {});
    RoutingDecision decision;
    decide_losses(routing, moe, context, *world, nullptr, decision);
    RoutingSums values;
    return router_losses(routing, moe, context, decision, 1, values).item<double>();
  };
  EXPECT_EQ(loss(), 0);
  moe.mutable_router()->set_selection(config::TOP_K);
  EXPECT_GT(loss(), .1);
}

TEST(Sinkhorn, GivesEveryTokenAndExpertTheSameMass) {
  at::manual_seed(3);
  const at::Tensor mass = sinkhorn(at::randn({12, 4}, at::kDouble) * 2, 6, {}).view({2, 6, 4});
  EXPECT_TRUE(is_near(mass.sum(2), at::full({2, 6}, 1.0 / 6, at::kDouble), 1e-3));
  EXPECT_TRUE(is_near(mass.sum(1), at::full({2, 4}, 1.0 / 4, at::kDouble), 1e-3));
}

TEST(Sinkhorn, SpreadsTokensThatAllPreferOneExpert) {
  at::manual_seed(3);
  const at::Tensor logits = at::randn({64, 4}, at::kDouble) + at::tensor({3., 0., 0., 0.});
  const at::Tensor plain = at::bincount(top_k_lowest_id(logits, 1).flatten(), {}, 4);
  const at::Tensor evened =
      at::bincount(top_k_lowest_id(sinkhorn(logits, 64, {}), 1).flatten(), {}, 4);
  EXPECT_GT(plain.max().item<int64_t>(), 50);
  EXPECT_LT(evened.max().item<int64_t>(), 28);
}

TEST(Sinkhorn, OfEqualTokensGoesToTheLowestExpertsWhateverTheLastBits) {
  at::manual_seed(3);
  const at::Tensor logits = at::tensor({.3, -.2, .9, .1}, at::kDouble).expand({6, 4});
  const at::Tensor noisy = logits + at::randn({6, 4}, at::kDouble) * 1e-14;
  EXPECT_TRUE(at::equal(top_k_lowest_id(sinkhorn(noisy, 6, {}), 2),
                        at::tensor({0, 1}, at::kLong).expand({6, 2})));
}

TEST(Sinkhorn, LeavesPaddingOut) {
  at::manual_seed(3);
  const at::Tensor logits = at::randn({6, 4}, at::kDouble);
  const at::Tensor padded = sinkhorn(logits, 6, first_are_real(4, 6));
  EXPECT_TRUE(is_near(padded.slice(0, 0, 4), sinkhorn(logits.slice(0, 0, 4), 4, {}), 1e-4));
  EXPECT_EQ(padded.slice(0, 4).abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace switchyard::models
