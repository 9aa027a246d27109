// Selections that give every expert its share: strictly balanced gating with learned thresholds
// (2017, appendix F), and the balanced assignment of BASE layers.

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/moe/losses/losses.h"
#include "models/moe/placement/placement.h"
#include "models/moe/router/router.h"
#include "models/moe/rules/balanced_selection.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;
using ::testing::Each;
using ::testing::ElementsAre;

struct StrictlyBalanced : ::testing::Test {
  config::Moe moe;
  StepContext context;
  RouterInput input;

  void SetUp() override {
    moe.set_num_experts(3);
    moe.set_top_k(1);
    config::Router& router = *moe.mutable_router();
    router.set_score(config::SOFTMAX);
    router.set_selection(config::STRICTLY_BALANCED);
    router.set_weighting(config::RENORMALIZE_KEPT);
    router.set_weight_norm(1);
    router.set_route_scale(1);
    moe.mutable_capacity()->set_policy(config::BY_PROBABILITY);
    moe.mutable_capacity()->set_train_factor(1);
    moe.mutable_capacity()->set_counts_k(true);
    context.training = true;
    context.group_tokens = input.context.group_tokens = 6;
    context.count.in_step = 6;
    // Probabilities of expert 0: .67 .63 .91 .09 .51 .22; 1: .24 .14 .05 .67 .31 .26; 2: .09 .23
    // .05 .24 .19 .53
    input.logits_TE =
        at::tensor({2., 1., 0., 1.5, 0., .5, 3., 0., 0., 0., 2., 1., 1., .5, 0., 0., .2, .9},
                   at::kDouble)
            .view({6, 3})
            .requires_grad_();
    input.threshold_E = at::tensor({.55, .3, .6}, at::kDouble).requires_grad_();
  }
  at::Tensor weights(const Routing& routing) const {
    const Placement placement = place_slots(routing, moe, context, {});
    return weights_after_drops(routing.weight_TK,
                               kept_slots(placement, moe, routing.weight_TK.scalar_type()),
                               moe.router());
  }
};

TEST_F(StrictlyBalanced, InTrainingEveryExpertTakesItsBestTokens) {
  const Routing routing = route_logits(input, moe, {});
  const at::Tensor weight = weights(routing);
  EXPECT_TRUE(at::equal(weight.gt(0).sum(0), at::tensor({2, 2, 2}, at::kLong)));
  const at::Tensor p = input.logits_TE.softmax(-1)[3];  // taken by experts 1 and 2
  EXPECT_TRUE(is_near(weight[3], at::stack({p[0] * 0, p[1], p[2]}) / (p[1] + p[2]), 1e-12));
  EXPECT_TRUE(is_near(weight[1], at::zeros({3}, at::kDouble), 0));  // taken by none
}

TEST_F(StrictlyBalanced, InEvaluationTheThresholdsDecide) {
  context.training = false;
  const Routing routing = route_logits(input, moe, {});
  const at::Tensor above = input.logits_TE.softmax(-1).gt(input.threshold_E);
  EXPECT_TRUE(at::equal(weights(routing).gt(0), above));
  EXPECT_EQ(above.sum().item<int64_t>(), 5);  // 0 at 0, 1, 2; 1 at 3, 4
}

TEST_F(StrictlyBalanced, ThresholdsLearnFromTheChoicesOfTraining) {
  const Routing routing = route_logits(input, moe, {});
  const at::Tensor kept = kept_slots(place_slots(routing, moe, context, {}), moe, at::kDouble);
  const at::Tensor loss = threshold_loss(routing, kept, context);
  // Expert 0: above at 0, 1, 2, took 0, 2. Expert 1: above at 3, 4, took those. Expert 2: none
  // above, took 3 and 5.
  const at::Tensor p = input.logits_TE.softmax(-1);
  const double expected = (p[1][0].item<double>() - .55) - (p[3][2].item<double>() - .6) -
                          (p[5][2].item<double>() - .6);
  EXPECT_NEAR(loss.item<double>(), expected / 6, 1e-12);
  EXPECT_GT(loss.item<double>(), 0);
  loss.backward();
  EXPECT_TRUE(
      is_near(input.threshold_E.grad(), at::tensor({-1. / 6, 0., 2. / 6}, at::kDouble), 1e-12));
  EXPECT_FALSE(input.logits_TE.grad().defined());
  expect_gradient(input.threshold_E, input.threshold_E.grad(), [&] {
    return threshold_loss(route_logits(input, moe, {}), kept, context).item<double>();
  });
}

// bfloat16 has no number between 0.25 and 0.251.
TEST_F(StrictlyBalanced, ReadsItsThresholdsAsTheOptimizerHoldsThem) {
  ParameterTable table;
  const Router router(Scope(table), moe, 16, 0);
  table.allocate(at::kBFloat16);
  table.initialize(1);
  Parameter& threshold = table.parameters().back();
  ASSERT_EQ(threshold.name, "threshold");
  threshold.store(at::tensor({.25, .2501, .2502}, at::kFloat));
  ASSERT_TRUE(at::equal(threshold.value[0], threshold.value[2]));
  const Routing routing = router.route(at::ones({6, 16}, at::kBFloat16), context, {});
  EXPECT_TRUE(at::equal(routing.threshold_E, threshold.master));
  (routing.threshold_E * 3).sum().backward();
  EXPECT_TRUE(at::equal(threshold.grad, at::full({3}, 3.f)));
}

TEST(RenormalizeKept, DividesByWhatIsLeftAfterDropsWithItsGradient) {
  const at::Tensor weight =
      at::tensor({.5, .3, .2, .6, .2, .2}, at::kDouble).view({2, 3}).requires_grad_();
  const at::Tensor kept = at::tensor({1., 0., 1., 0., 0., 0.}, at::kDouble).view({2, 3});
  config::Router router;
  router.set_weight_norm(1);
  router.set_route_scale(2);
  const at::Tensor after = weights_after_drops(weight * 2, kept, router) / 2;
  EXPECT_TRUE(is_near(after, at::tensor({5. / 7, 0., 2. / 7, 0., 0., 0.}, at::kDouble).view({2, 3}),
                      1e-12));
  after[0][0].backward();
  EXPECT_TRUE(is_near(weight.grad()[0], at::tensor({.2 / .49, 0., -.5 / .49}, at::kDouble), 1e-12));
  EXPECT_TRUE(is_near(weight.grad()[1], at::zeros({3}, at::kDouble), 0));
}

// The greatest sum over all assignments of six tokens, two to each of three experts.
double best_sum(const at::Tensor& logits) {
  std::vector<int64_t> expert = {0, 0, 1, 1, 2, 2};
  double best = -1e9;
  do {
    double sum = 0;
    for (int64_t t = 0; t < 6; ++t) sum += logits[t][expert[t]].item<double>();
    best = std::max(best, sum);
  } while (std::next_permutation(expert.begin(), expert.end()));
  return best;
}

std::vector<int64_t> loads(const at::Tensor& ids, int64_t experts) {
  std::vector<int64_t> load(experts);
  const at::Tensor flat = ids.flatten();
  for (int64_t t = 0; t < flat.numel(); ++t) ++load[flat[t].item<int64_t>()];
  return load;
}

TEST(BalancedAssignment, IsTheBestOfAll) {
  at::manual_seed(9);
  for (int trial = 0; trial < 20; ++trial) {
    const at::Tensor logits = at::randn({6, 3}, at::kDouble) * 3;
    const at::Tensor ids = balanced_assignment(logits, 6, {});
    EXPECT_THAT(loads(ids, 3), Each(2));
    EXPECT_NEAR(logits.gather(1, ids).sum().item<double>(), best_sum(logits), 6e-3) << trial;
  }
}

TEST(BalancedAssignment, IsEvenWhateverTheLogits) {
  const at::Tensor same = at::zeros({64, 8}, at::kDouble);
  EXPECT_THAT(loads(balanced_assignment(same, 64, {}), 8), Each(8));
  at::Tensor skewed = at::rand({64, 8}, at::kDouble);
  skewed.select(1, 0).add_(50);
  EXPECT_THAT(loads(balanced_assignment(skewed, 64, {}), 8), Each(8));
}

TEST(BalancedAssignment, EndsWhateverTheLogits) {
  at::manual_seed(4);
  for (const double size : {1e6, 1e12, 1e30}) {
    const at::Tensor logits = at::randn({64, 8}, at::kDouble) * size;
    EXPECT_EQ(balanced_assignment(logits, 64, {}).size(0), 64) << size;
  }
  at::Tensor broken = at::randn({64, 8}, at::kDouble);
  broken[5][3] = std::nan("");
  EXPECT_EQ(balanced_assignment(broken, 64, {}).size(0), 64);
}

TEST(BalancedAssignment, LooksAtOneGroupAndNotAtPadding) {
  at::manual_seed(4);
  const at::Tensor logits = at::randn({12, 3}, at::kDouble);
  const at::Tensor ids = balanced_assignment(logits, 6, {});
  EXPECT_TRUE(at::equal(ids.narrow(0, 6, 6), balanced_assignment(logits.narrow(0, 6, 6), 6, {})));
  const at::Tensor masked =
      balanced_assignment(logits.narrow(0, 0, 6), 6, first_are_real(3, 6)).narrow(0, 0, 3);
  EXPECT_THAT(loads(masked, 3), Each(1));
}

TEST(BalancedAssignment, ANumberOfTokensThatExpertsDoNotDivideDiffersByOne) {
  at::manual_seed(4);
  std::vector<int64_t> load = loads(balanced_assignment(at::randn({7, 3}, at::kDouble), 7, {}), 3);
  EXPECT_EQ(*std::max_element(load.begin(), load.end()), 3);
  EXPECT_EQ(std::accumulate(load.begin(), load.end(), int64_t{0}), 7);
}

}  // namespace
}  // namespace switchyard::models
