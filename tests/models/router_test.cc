#include "models/moe/router/router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/top_k.h"
#include "models/moe/losses/balance.h"
#include "models/moe/losses/losses.h"
#include "models/moe/router/selection.h"
#include "models/moe/rules/weighting.h"
#include "parallel/single.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

at::Tensor row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).unsqueeze(0);
}

config::Router options(config::Weighting weighting, double norm, double scale) {
  config::Router router;
  router.set_weighting(weighting);
  router.set_weight_norm(norm);
  router.set_route_scale(scale);
  return router;
}

// Chosen scores of the example logits [2, 1, .5, -1] with k = 2.
at::Tensor chosen(const at::Tensor& score) { return score.gather(1, top_k_lowest_id(score, 2)); }

TEST(Router, WeightConventionsGiveTheKnownValues) {
  const at::Tensor logits = row({2, 1, .5, -1});
  const at::Tensor p = chosen(logits.softmax(-1));
  EXPECT_TRUE(
      is_near(choice_weights(p, options(config::RAW, 1, 1)), row({.609460, .224208}), 2e-6));
  EXPECT_TRUE(is_near(choice_weights(p, options(config::RENORMALIZE, 1, 1)),
                      row({.731059, .268941}), 2e-6));
  EXPECT_TRUE(is_near(choice_weights(p, options(config::RENORMALIZE, 2, 1)),
                      row({.938508, .345258}), 2e-6));
  const at::Tensor s = chosen(logits.sigmoid());
  EXPECT_TRUE(is_near(choice_weights(s, options(config::RENORMALIZE, 1, 2.5)),
                      row({1.366123, 1.133877}), 2e-6));
}

// The two orders that papers have: over all experts, chosen and renormalised (GShard), or chosen
// and then over those alone (Mixtral).
TEST(Router, RenormalizedSoftmaxIsTheSoftmaxOfTheChosenLogits) {
  constexpr int64_t kTokens = 20, kWidth = 6;
  config::Moe moe;
  moe.set_num_experts(8);
  moe.set_top_k(3);
  *moe.mutable_router() = options(config::RENORMALIZE, 1, 1);
  moe.mutable_router()->set_init_std(1);
  ParameterTable table;
  const Router router(Scope(table) / "router", moe, kWidth, 0);
  table.allocate(at::kDouble);
  table.initialize(3);
  at::manual_seed(5);
  const at::Tensor x = at::randn({kTokens, kWidth}, at::kDouble).requires_grad_(),
                   probe = at::randn({kTokens, 3}, at::kDouble);
  const Routing routing = router.route(x, {}, {});
  (routing.weight_TK * probe).sum().backward();

  const Parameter& weight = table.parameters().front();
  const at::Tensor other_x = x.detach().clone().requires_grad_(),
                   other_weight = weight.master.detach().clone().requires_grad_();
  const auto [best, id] = at::mm(other_x, other_weight.t()).topk(3);
  EXPECT_TRUE(at::equal(routing.expert_TK, id));
  EXPECT_TRUE(is_near(routing.weight_TK, best.softmax(-1), 1e-12));
  (best.softmax(-1) * probe).sum().backward();
  EXPECT_GT(weight.grad.abs().max().item<double>(), 0.1);
  EXPECT_TRUE(is_near(weight.grad, other_weight.grad(), 1e-12));
  EXPECT_TRUE(is_near(x.grad(), other_x.grad(), 1e-12));
}

// Losses of the top-1 example, with their gradients in the first row.
struct SwitchLosses : ::testing::Test {
  at::Tensor logits =
      at::tensor({2., 1., 0., 1.5, 0., .5, 3., 0., 0., 0., 2., 1., 1., .5, 0., 0., .2, .9},
                 at::kDouble)
          .view({6, 3})
          .requires_grad_();
  config::Moe moe;
  StepContext context;
  std::unique_ptr<parallel::Communicator> single = parallel::make_single();
  parallel::Communicator& world = *single;

  void SetUp() override {
    moe.set_num_experts(3);
    moe.mutable_balance_loss()->set_load(config::FIRST_CHOICE);
    moe.mutable_balance_loss()->set_statistics(config::PER_GROUP);
    context.count.in_step = context.count.in_micro_batch = context.group_tokens = 6;
  }
  Routing routing() const {
    const at::Tensor p = logits.softmax(-1);
    return {logits, p, top_k_lowest_id(p, 1), {}, {}};
  }
  at::Tensor slope_GE() {
    return balance_slopes(routing(), moe, context, world, nullptr).expert_GE;
  }
  at::Tensor balance() { return balance_loss(routing().probability_TE, slope_GE(), context); }
};

TEST_F(SwitchLosses, BalanceLossHasItsKnownFractionsAndProbabilities) {
  constexpr double kTokens = 6, kExperts = 3;  // a slope is E f / T
  EXPECT_TRUE(is_near(slope_GE() * (kTokens / kExperts), row({.666667, .166667, .166667}), 2e-6));
  EXPECT_TRUE(is_near(group_sums(routing().probability_TE, 1, context) / kTokens,
                      row({.502226, .277269, .220505}), 2e-6));
}

TEST_F(SwitchLosses, BalanceLossHasItsKnownValueAndGradient) {
  const at::Tensor loss = balance();
  EXPECT_NEAR(loss.item<double>(), 1.253339, 1e-6);
  loss.backward();
  EXPECT_TRUE(
      is_near(logits.grad()[0], at::tensor({.055674, -.040701, -.014973}, at::kDouble), 2e-5));
  EXPECT_NEAR(logits.grad().sum(1).abs().max().item<double>(), 0,
              1e-15);  // softmax does not see a shift
}

TEST_F(SwitchLosses, GlobalStatisticsEqualGroupStatisticsForOneGroup) {
  const double per_group = balance().item<double>();
  moe.mutable_balance_loss()->set_statistics(config::GLOBAL_BATCH);
  EXPECT_NEAR(balance().item<double>(), per_group, 1e-15);
}

TEST_F(SwitchLosses, RouterZLossHasItsKnownValueAndGradient) {
  const at::Tensor loss = router_z_loss(logits, context);
  EXPECT_NEAR(loss.item<double>(), 5.039361, 1e-6);
  loss.backward();
  EXPECT_TRUE(
      is_near(logits.grad()[0], at::tensor({.533879, .196403, .072253}, at::kDouble), 2e-6));
}

// Of tokens that are one routing group.
StepContext one_group(const at::Tensor& p_TE) {
  StepContext context;
  context.count.in_step = context.count.in_micro_batch = context.group_tokens = p_TE.size(0);
  return context;
}

double balance_of(const at::Tensor& p_TE, const at::Tensor& ids_TK, config::LoadFraction load) {
  config::Moe moe;
  moe.set_num_experts(static_cast<int>(p_TE.size(1)));
  moe.mutable_balance_loss()->set_load(load);
  moe.mutable_balance_loss()->set_statistics(config::PER_GROUP);
  const auto world = parallel::make_single();
  const StepContext context = one_group(p_TE);
  const Routing routing{p_TE, p_TE, ids_TK.contiguous(), {}, {}};
  return balance_loss(p_TE, balance_slopes(routing, moe, context, *world, nullptr).expert_GE,
                      context)
      .item<double>();
}

// As GShard's paper prints it: the mean over experts of their share of tokens times their mean
// probability.
double gshard_paper_loss(const at::Tensor& p_TE, const at::Tensor& ids_TK) {
  const auto tokens = static_cast<double>(p_TE.size(0));
  const at::Tensor count_GE =
      count_load(ids_TK, p_TE.size(1), p_TE.size(0), config::FIRST_CHOICE, {});
  const at::Tensor sum_GE = group_sums(p_TE, 1, one_group(p_TE));
  return (count_GE.to(at::kDouble) * sum_GE).mean().item<double>() / (tokens * tokens);
}

TEST(BalanceLoss, OfTheTopTwoExampleCountsFirstChoicesOnly) {
  const at::Tensor logits =
      at::tensor({2., 1., 0., -1., 2., 1.5, 0., 0., 1., 2., 0., 0., 2.5, 0., 1., 0.}, at::kDouble)
          .view({4, 4});
  const at::Tensor p = logits.softmax(-1), ids = top_k_lowest_id(p, 2);
  const double loss = balance_of(p, ids, config::FIRST_CHOICE);
  EXPECT_NEAR(loss, 1.898834, 1e-6);
  EXPECT_NEAR(gshard_paper_loss(p, ids), .118677, 1e-6);
  EXPECT_NEAR(gshard_paper_loss(p, ids) * 4 * 4, loss, 1e-12);
}

TEST(BalanceLoss, IsOneWhenBalancedForBothLoadFractions) {
  const at::Tensor p = at::full({8, 4}, 0.25, at::kDouble);
  const at::Tensor ids =
      at::tensor({0, 1, 1, 2, 2, 3, 3, 0, 0, 1, 1, 2, 2, 3, 3, 0}, at::kLong).view({8, 2});
  for (const auto load : {config::FIRST_CHOICE, config::ALL_CHOICES}) {
    EXPECT_NEAR(balance_of(p, ids, load), 1, 1e-15);
  }
  EXPECT_NEAR(gshard_paper_loss(p, ids), 1.0 / (4 * 4), 1e-15);
}

// Two of three tokens go to expert 0, whose mean probability is .343: 2 (2/3 .343 + 1/3 .657).
TEST(BalanceLoss, FallsBelowOneWhereTheBusyExpertIsTheLessLikely) {
  const at::Tensor p = at::tensor({.51, .49, .51, .49, .01, .99}, at::kDouble).view({3, 2});
  EXPECT_NEAR(balance_of(p, top_k_lowest_id(p, 1), config::FIRST_CHOICE), .895556, 1e-6);
}

// Experts in the same order by their share of tokens and by their mean probability.
TEST(BalanceLoss, IsAtLeastOneWhereTheBusierExpertIsTheLikelier) {
  constexpr int64_t kTokens = 40, kExperts = 5;
  at::manual_seed(6);
  for (int trial = 0; trial < 20; ++trial) {
    const at::Tensor mean_E =
        std::get<0>(at::randn({kExperts}, at::kDouble).softmax(-1).sort(-1, true));
    const at::Tensor p = mean_E.expand({kTokens, kExperts}).contiguous();
    const at::Tensor id_T = at::rand({kTokens}).square().mul(kExperts).to(at::kLong);
    const at::Tensor rank_E = id_T.bincount({}, kExperts).argsort(-1, true).argsort();
    const at::Tensor ids = rank_E.index_select(0, id_T).unsqueeze(1);
    ASSERT_TRUE(ids.flatten().bincount({}, kExperts).diff().le(0).all().item<bool>());
    EXPECT_GT(balance_of(p, ids, config::FIRST_CHOICE), 1);
    EXPECT_LT(balance_of(p, kExperts - 1 - ids, config::FIRST_CHOICE), 1);
  }
}

// As no-token-left-behind routing has it, whose tokens try one expert after another.
TEST_F(SwitchLosses, BalanceLossOfAllChoicesIsTheMeanOverTheirRanks) {
  const at::Tensor p = logits.detach().softmax(-1), ids = top_k_lowest_id(p, 3);
  const auto of_rank = [&](int64_t j) {
    return balance_of(p, ids.narrow(1, j, 1), config::FIRST_CHOICE);
  };
  EXPECT_NEAR(balance_of(p, ids.narrow(1, 0, 2), config::ALL_CHOICES),
              (of_rank(0) + of_rank(1)) / 2, 1e-12);
  EXPECT_NEAR(of_rank(0) + of_rank(1) + of_rank(2), 3, 1e-12);
  EXPECT_NEAR(balance_of(p, ids, config::ALL_CHOICES), 1, 1e-12);
}

TEST(AttachLoss, AddsTheLossGradientAndLeavesTheValueAlone) {
  at::Tensor x = at::rand({3}, at::kDouble).requires_grad_(),
             w = at::rand({3}, at::kDouble).requires_grad_();
  const at::Tensor y = attach_loss(x, (w * w).sum());
  EXPECT_TRUE(at::equal(y, x));
  y.sum().backward();
  EXPECT_TRUE(is_near(x.grad(), at::ones({3}, at::kDouble)));
  EXPECT_TRUE(is_near(w.grad(), 2 * w));
}

}  // namespace
}  // namespace switchyard::models
