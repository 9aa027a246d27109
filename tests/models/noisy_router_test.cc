// Noisy top-k routing (2017) against worked values: 3 tokens, 4 experts, 2 chosen; and the same
// with noise of a fixed size (V-MoE).

#include <gtest/gtest.h>

#include "models/moe/losses/losses.h"
#include "models/moe/router/router.h"
#include "parallel/single.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;

at::Tensor matrix(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).view({3, 4});
}

struct NoisyRouter : ::testing::Test {
  config::Moe moe;
  RouterInput input;
  RouterDraws draws;
  StepContext context;

  void SetUp() override {
    moe.set_num_experts(4);
    moe.set_top_k(2);
    moe.mutable_router()->set_score(config::SOFTMAX);
    moe.mutable_router()->set_selection(config::TOP_K);
    moe.mutable_router()->set_weighting(config::RENORMALIZE);
    moe.mutable_router()->set_weight_norm(1);
    moe.mutable_router()->set_route_scale(1);
    moe.mutable_router()->set_noise(config::LEARNED_NOISE);
    input.logits_TE = matrix({1, .5, .2, -.3, .1, .9, .8, 0, .3, .2, .1, .7}).requires_grad_();
    input.noise_logits_TE = at::zeros({3, 4}, at::kDouble).requires_grad_();
    draws.normal_TE = matrix({.2, -.1, .5, .3, -.4, .1, 0, .6, .5, -.2, .1, -.3});
    context.count.in_step = context.count.in_micro_batch = 3;
  }
  at::Tensor load_loss() const {
    const Routing routing = route_logits(input, moe, draws);
    return cv_loss(load_terms(routing, context), context, 1);
  }
};

TEST_F(NoisyRouter, HasItsKnownWeights) {
  const Routing routing = route_logits(input, moe, draws);
  const at::Tensor gates =
      at::zeros({3, 4}, at::kDouble).scatter(1, routing.expert_TK, routing.weight_TK);
  EXPECT_TRUE(is_near(
      gates, matrix({.643148, 0, .356852, 0, 0, .542476, .457524, 0, .540540, 0, 0, .459460}),
      2e-6));
}

TEST_F(NoisyRouter, HasItsKnownChancesAndLosses) {
  const Routing routing = route_logits(input, moe, draws);
  EXPECT_TRUE(is_near(routing.chance_TE,
                      matrix({.791343, .470765, .371965, .112931, .159741, .751735, .704622,
                              .127614, .573164, .340504, .290027, .774367}),
                      2e-6));
  const at::Tensor importance = importance_of(routing, moe.num_experts(), context),
                   load = load_terms(routing, context);
  EXPECT_TRUE(
      is_near(importance, at::tensor({1.183689, .542476, .814375, .459460}, at::kDouble), 2e-6));
  EXPECT_TRUE(
      is_near(load, at::tensor({1.524247, 1.563004, 1.366614, 1.014912}, at::kDouble), 2e-6));
  EXPECT_NEAR(cv_squared(importance).item<double>(), .142093, 1e-6);
  EXPECT_NEAR(cv_squared(load).item<double>(), .025025, 1e-6);
}

TEST_F(NoisyRouter, CountsItsLoadWithoutNoise) {
  draws.normal_TE = at::Tensor();
  const Routing routing = route_logits(input, moe, draws);
  EXPECT_FALSE(routing.chance_TE.defined());
  EXPECT_TRUE(at::equal(load_terms(routing, context), at::tensor({2., 2., 1., 1.}, at::kDouble)));
  EXPECT_FALSE(load_terms(routing, context).requires_grad());
}

TEST_F(NoisyRouter, LoadLossHasItsGradientThroughLogitsNoiseAndThreshold) {
  load_loss().backward();
  for (at::Tensor* leaf : {&input.logits_TE, &input.noise_logits_TE}) {
    EXPECT_GT(leaf->grad().abs().max().item<double>(), 1e-3);
    expect_gradient(*leaf, leaf->grad(), [&] { return load_loss().item<double>(); },
                    {.tolerance = 1e-8});
  }
}

TEST_F(NoisyRouter, ImportanceLossHasItsGradientThroughTheWeights) {
  const auto loss = [&] {
    return cv_loss(importance_of(route_logits(input, moe, draws), moe.num_experts(), context),
                   context, 1);
  };
  loss().backward();
  EXPECT_GT(input.logits_TE.grad().abs().max().item<double>(), 1e-3);
  expect_gradient(input.logits_TE, input.logits_TE.grad(), [&] { return loss().item<double>(); },
                  {.tolerance = 1e-8});
}

struct FixedNoise : NoisyRouter {
  static constexpr double kSigma = 0.25;

  void SetUp() override {
    NoisyRouter::SetUp();
    moe.mutable_router()->set_noise(config::FIXED_NOISE);
    moe.mutable_router()->set_noise_std(kSigma);
    input.noise_logits_TE = at::Tensor();
  }
};

TEST_F(FixedNoise, ChoosesAndWeighsByTheNoisyLogits) {
  const Routing routing = route_logits(input, moe, draws);
  const at::Tensor noisy = (input.logits_TE + draws.normal_TE * kSigma).detach();
  EXPECT_TRUE(is_near(routing.probability_TE, noisy.softmax(-1)));
  const auto [best, expert] = noisy.topk(2, -1);
  EXPECT_TRUE(at::equal(routing.expert_TK, expert));
  EXPECT_TRUE(is_near(routing.weight_TK, best.softmax(-1)));
  EXPECT_TRUE(at::equal(routing.logits_TE, input.logits_TE));  // which the z-loss takes
  const Routing evaluation = route_logits(input, moe, {});
  EXPECT_TRUE(is_near(evaluation.probability_TE, input.logits_TE.softmax(-1)));
  EXPECT_FALSE(evaluation.chance_TE.defined());
}

// By drawing an expert's noise again, many times, beside the others' as they are.
TEST_F(FixedNoise, HasTheChanceOfAnotherDraw) {
  const Routing routing = route_logits(input, moe, draws);
  const at::Tensor noisy = (input.logits_TE + draws.normal_TE * kSigma).detach();
  constexpr int64_t kDraws = 100'000;
  at::manual_seed(8);
  for (int64_t e = 0; e < 4; ++e) {
    const at::Tensor others = noisy.clone();
    others.select(1, e).fill_(-1e9);
    const at::Tensor to_beat = std::get<0>(others.topk(2, -1)).select(1, 1);
    const at::Tensor again = input.logits_TE.detach().select(1, e).unsqueeze(1) +
                             at::randn({3, kDraws}, at::kDouble) * kSigma;
    const at::Tensor share = again.gt(to_beat.unsqueeze(1)).to(at::kDouble).mean(1);
    for (int64_t t = 0; t < 3; ++t)
      EXPECT_NEAR(routing.chance_TE[t][e].item<double>(), share[t].item<double>(), 0.007);
  }
}

TEST_F(FixedNoise, LoadLossHasItsGradientThroughLogitsAndThreshold) {
  load_loss().backward();
  EXPECT_GT(input.logits_TE.grad().abs().max().item<double>(), 1e-3);
  expect_gradient(input.logits_TE, input.logits_TE.grad(),
                  [&] { return load_loss().item<double>(); }, {.tolerance = 1e-8});
}

TEST_F(NoisyRouter, SharesOfTheLossAddUpOverRanks) {
  const Routing routing = route_logits(input, moe, draws);
  const at::Tensor first = importance_of(routing, moe.num_experts(), context) * 0.25,
                   rest = first.detach() * 3;
  const at::Tensor share = cv_loss(total_with_gradient(first.detach() + rest, first), context, 2);
  EXPECT_NEAR(2 * share.item<double>(), .142093, 1e-6);
}

}  // namespace
}  // namespace switchyard::models
