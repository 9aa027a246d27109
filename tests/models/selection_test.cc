#include "models/moe/router/selection.h"

#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "core/tensor/top_k.h"
#include "models/moe/router/draws.h"
#include "models/moe/router/router.h"
#include "models/moe/rules/fixed_choice.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;
using ::testing::ElementsAre;

at::Tensor row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).unsqueeze(0);
}
at::Tensor ids(const std::vector<int64_t>& values, int64_t rows = 1) {
  return at::tensor(values, at::kLong).view({rows, -1});
}

TEST(Selection, TiesGoToTheLowestExpert) {
  EXPECT_TRUE(at::equal(top_k_lowest_id(at::zeros({2, 5}), 3), ids({0, 1, 2, 0, 1, 2}, 2)));
  EXPECT_TRUE(at::equal(top_k_lowest_id(row({1, 3, 2, 3}), 3), ids({1, 3, 2})));
}

TEST(Selection, TopKAgreesWithAFullStableSort) {
  const at::Tensor score = at::randint(0, 7, {200, 16}).to(at::kFloat);  // many ties
  const auto sorted = score.sort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  for (const int64_t k : {1, 5, 16})
    EXPECT_TRUE(at::equal(top_k_lowest_id(score, k), std::get<1>(sorted).slice(1, 0, k))) << k;
}

TEST(Selection, ScoresThatAreNoNumbersStillGiveDifferentExperts) {
  const at::Tensor chosen = top_k_lowest_id(at::full({1, 6}, NAN), 4);
  EXPECT_TRUE(at::equal(chosen, ids({0, 1, 2, 3})));
}

config::Moe moe_of(int experts, int k) {
  config::Moe moe;
  moe.set_num_experts(experts);
  moe.set_top_k(k);
  moe.mutable_router()->set_score(config::SOFTMAX);
  moe.mutable_router()->set_selection(config::TOP_K);
  moe.mutable_router()->set_weighting(config::RENORMALIZE);
  moe.mutable_router()->set_weight_norm(1);
  moe.mutable_router()->set_route_scale(1);
  return moe;
}

Routing route(const at::Tensor& logits, const config::Moe& moe, const at::Tensor& bias = {}) {
  RouterInput input;
  input.logits_TE = logits;
  input.bias_E = bias;
  return route_logits(input, moe, {});
}

// 8 experts in 4 groups, of which the best 2 count; scores and biases of DeepSeek-V3's rule.
struct BiasedGroups : ::testing::Test {
  at::Tensor score = row({.9, .1, .6, .55, .7, .05, .3, .2});
  at::Tensor bias = at::tensor({-.2, 0., 0., .1, 0., 0., 0., 0.}, at::kDouble);
  config::Moe moe = moe_of(8, 2);

  void SetUp() override {
    config::Router& router = *moe.mutable_router();
    router.set_score(config::SIGMOID);
    router.set_selection_bias(true);
    router.set_num_groups(4);
    router.set_group_top_k(2);
    router.set_group_score_experts(2);
    router.set_route_scale(2.5);
  }
};

TEST_F(BiasedGroups, HaveTheirKnownExpertsAndUnbiasedWeights) {
  const Routing routing = route(score.logit(), moe, bias);
  EXPECT_TRUE(at::equal(routing.expert_TK, ids({0, 3})));
  EXPECT_TRUE(is_near(routing.weight_TK, row({1.551724, .948276}), 2e-6));
}

TEST_F(BiasedGroups, RankByTheirKnownScores) {
  const auto kept = [&](int groups) {
    moe.mutable_router()->set_group_top_k(groups);
    const at::Tensor first = keep_best_groups(score + bias, moe.router()).view({4, 2}).select(1, 0);
    const at::Tensor is_kept = first.isfinite().to(at::kLong);
    return std::vector(is_kept.const_data_ptr<int64_t>(), is_kept.const_data_ptr<int64_t>() + 4);
  };
  EXPECT_THAT(kept(1), ElementsAre(0, 1, 0, 0));
  EXPECT_THAT(kept(2), ElementsAre(1, 1, 0, 0));
  EXPECT_THAT(kept(3), ElementsAre(1, 1, 1, 0));
}

// A group's score shows in whom it beats: a rival of two equal experts, just below and just above.
TEST_F(BiasedGroups, HaveTheirKnownScores) {
  moe.mutable_router()->set_num_groups(2);
  moe.mutable_router()->set_group_top_k(1);
  const std::vector<double> known = {.8, 1.25, .75, .5};
  for (int64_t g = 0; g < 4; ++g) {
    for (const double difference : {-1e-6, 1e-6}) {
      const at::Tensor rival = at::full({1, 2}, (known[g] + difference) / 2, at::kDouble);
      const at::Tensor pair = at::concat({(score + bias).narrow(1, 2 * g, 2), rival}, 1);
      const at::Tensor left = keep_best_groups(pair, moe.router()).isfinite();
      EXPECT_EQ(left[0][0].item<bool>(), difference < 0) << g;
      EXPECT_EQ(left[0][2].item<bool>(), difference > 0) << g;
    }
  }
}

TEST_F(BiasedGroups, AreMaskedBelowAnyScoreAlsoWhenBiasedScoresAreNegative) {
  const Routing routing = route(score.logit(), moe, bias - 5);
  EXPECT_TRUE(at::equal(routing.expert_TK, ids({0, 3})));
}

TEST_F(BiasedGroups, CountByTheirMaximumWithOneScoreExpert) {
  moe.mutable_router()->set_group_score_experts(1);
  const Routing routing = route(score.logit(), moe, bias);  // .7, .65, .7, .3: groups 0 and 2
  EXPECT_TRUE(at::equal(routing.expert_TK, ids({0, 4})));
}

TEST(Selection, OfAllExpertsIsTheDenseGate) {
  config::Moe moe = moe_of(4, 4);
  moe.mutable_router()->set_weighting(config::RAW);
  const at::Tensor logits = at::randn({5, 4}, at::kDouble);
  const Routing routing = route(logits, moe);
  const at::Tensor weight =
      at::zeros({5, 4}, at::kDouble).scatter(1, routing.expert_TK, routing.weight_TK);
  EXPECT_TRUE(is_near(weight, logits.softmax(-1), 1e-15));
}

TEST(Selection, SamplesInProportionToTheScores) {
  constexpr int64_t kDraws = 20000;
  config::Moe moe = moe_of(3, 1);
  moe.mutable_router()->set_selection(config::SAMPLED);
  StepContext context;
  context.training = true;
  const RouterDraws draws = draw_for_router(moe, kDraws, context, 0, at::kDouble);
  const at::Tensor p = at::tensor({.5, .3, .2}, at::kDouble);
  const at::Tensor chosen = sample_by_score(p.expand({kDraws, 3}), draws.gumbel_TE, 1);
  const at::Tensor share = at::bincount(chosen.flatten(), {}, 3).to(at::kDouble) / kDraws;
  EXPECT_LT((share - p).abs().max().item<double>(), 0.015);  // 4 standard deviations
}

TEST(Selection, SamplesTheSecondExpertAmongTheOthers) {
  constexpr int64_t kDraws = 20000;
  config::Moe moe = moe_of(3, 2);
  moe.mutable_router()->set_second_choice(config::SAMPLED_SECOND);
  StepContext context;
  context.training = true;
  const RouterDraws draws = draw_for_router(moe, kDraws, context, 0, at::kDouble);
  const at::Tensor p = at::tensor({.5, .3, .2}, at::kDouble);
  const at::Tensor chosen = best_and_sampled(p.expand({kDraws, 3}), draws.gumbel_TE);
  EXPECT_EQ(chosen.select(1, 0).abs().max().item<int64_t>(), 0);
  const double second_is_1 = chosen.select(1, 1).eq(1).to(at::kDouble).mean().item<double>();
  EXPECT_EQ(chosen.select(1, 1).eq(0).sum().item<int64_t>(), 0);
  EXPECT_NEAR(second_is_1, 0.6, 0.015);
}

TEST(Selection, HashIsAFunctionOfTokenAndSeedThatSpreadsTokens) {
  const at::Tensor tokens = at::arange(4000, at::kLong).remainder(1000);
  const at::Tensor chosen = hash_choice(tokens, 8, 2, 5);
  EXPECT_TRUE(at::equal(chosen.slice(0, 0, 1000), chosen.slice(0, 3000)));
  EXPECT_TRUE(chosen.select(1, 0).ne(chosen.select(1, 1)).all().item<bool>());
  EXPECT_FALSE(at::equal(chosen, hash_choice(tokens, 8, 2, 6)));
  const at::Tensor load = at::bincount(chosen.slice(0, 0, 1000).flatten(), {}, 8);
  EXPECT_GT(load.min().item<int64_t>(), 200);  // of 250
  EXPECT_LT(load.max().item<int64_t>(), 300);
}

TEST(Selection, ForcedUniformGoesRoundTheExperts) {
  EXPECT_TRUE(at::equal(forced_choice(4, 3, 4, TokenMap(), false),
                        ids({0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3}, 4)));
}

TEST(Selection, ForcedSkewedFollowsZipfsLaw) {
  constexpr int64_t kDraws = 20000;
  const at::Tensor chosen = forced_choice(kDraws, 2, 4, TokenMap(), true),
                   first = chosen.select(1, 0);
  const at::Tensor share = at::bincount(first, {}, 4).to(at::kDouble) / kDraws;
  const at::Tensor expected = at::tensor({12., 6., 4., 3.}, at::kDouble) / 25;  // 1 / ((e + 1) H_4)
  EXPECT_LT((share - expected).abs().max().item<double>(), 0.015);  // 4 standard deviations
  EXPECT_TRUE(at::equal(chosen.select(1, 1), (first + 1).remainder(4)));
}

TEST(Selection, ForcedChoicesDoNotDependOnHowTokensAreCut) {
  for (const bool skewed : {false, true}) {
    const at::Tensor pieces = at::concat(
        {forced_choice(7, 2, 5, TokenMap(), skewed), forced_choice(13, 2, 5, TokenMap(7), skewed)});
    EXPECT_TRUE(at::equal(pieces, forced_choice(20, 2, 5, TokenMap(), skewed))) << skewed;
  }
}

TEST(Selection, UniformWeightsHaveNoGradient) {
  config::Moe moe = moe_of(4, 2);
  moe.mutable_router()->set_selection(config::HASH);
  moe.mutable_router()->set_weighting(config::EQUAL);
  RouterInput input;
  input.logits_TE = at::zeros({3, 4}, at::kDouble);
  input.context.token_ids_T = at::arange(3, at::kLong);
  EXPECT_TRUE(
      at::equal(route_logits(input, moe, {}).weight_TK, at::full({3, 2}, 0.5, at::kDouble)));
}

}  // namespace
}  // namespace switchyard::models
