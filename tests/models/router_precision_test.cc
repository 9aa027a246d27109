// A router that rounds to bfloat16, and what that costs.

#include <cmath>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "models/moe/router/router.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

config::Moe moe_with(config::RouterPrecision precision, int experts) {
  config::Moe moe;
  moe.set_num_experts(experts);
  moe.set_top_k(1);
  config::Router& router = *moe.mutable_router();
  router.set_score(config::SOFTMAX);
  router.set_selection(config::TOP_K);
  router.set_weighting(config::RAW);
  router.set_weight_norm(1);
  router.set_route_scale(1);
  router.set_init_std(0.3);
  router.set_precision(precision);
  return moe;
}

at::Tensor rounded(const at::Tensor& x) { return x.to(at::kBFloat16).to(x.scalar_type()); }

// Ten experts of logit 128, the last of 128.5, which has no bfloat16 of its own.
TEST(RouterPrecision, BFloat16TakesAnExpertsLeadAway) {
  RouterInput input;
  input.logits_TE = at::full({1, 11}, 128.0);
  input.logits_TE[0][10] = 128.5;
  const Routing exact = route_logits(input, moe_with(config::ROUTER_FP32, 11), {});
  EXPECT_EQ(exact.expert_TK.item<int64_t>(), 10);
  EXPECT_NEAR(exact.weight_TK.item<double>(), std::exp(0.5) / (10 + std::exp(0.5)), 1e-6);
  EXPECT_NEAR(exact.weight_TK.item<double>(), 0.142, 5e-4);
  const Routing coarse = route_logits(input, moe_with(config::ROUTER_BF16, 11), {});
  EXPECT_EQ(coarse.expert_TK.item<int64_t>(), 0);  // a tie, to the lowest id
  EXPECT_NEAR(coarse.weight_TK.item<double>(), 0.091, 5e-4);
  EXPECT_EQ(coarse.weight_TK.item<double>(), rounded(at::tensor(1.0 / 11)).item<double>());
}

struct RouterPrecisionOf : ::testing::TestWithParam<at::ScalarType> {};

// Input, matrix, logits and scores, whatever the compute type; the gradient passes.
TEST_P(RouterPrecisionOf, RoundsEachResultOfTheRouter) {
  constexpr int64_t kTokens = 12, kWidth = 16, kExperts = 8;
  ParameterTable table;
  const Router router(Scope(table) / "router", moe_with(config::ROUTER_BF16, kExperts), kWidth, 0);
  table.allocate(GetParam());
  table.initialize(4);
  at::manual_seed(1);
  const at::Tensor x = at::randn({kTokens, kWidth}, at::kDouble).to(GetParam()).requires_grad_();
  StepContext context;
  context.group_tokens = context.count.in_step = kTokens;
  const Routing routing = router.route(x, context, {});

  const auto type = GetParam() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor weight = rounded(table.parameters()[0].value.detach().to(type));
  const at::Tensor logits = rounded(at::mm(rounded(x.detach().to(type)), weight.t()));
  const at::Tensor score = rounded(logits.softmax(-1));
  EXPECT_TRUE(at::equal(routing.logits_TE, logits));
  EXPECT_TRUE(at::equal(routing.probability_TE, score));
  EXPECT_TRUE(at::equal(routing.weight_TK, std::get<0>(score.max(-1, true))));
  EXPECT_FALSE(is_near(logits.softmax(-1), score, 1e-7));
  routing.weight_TK.sum().backward();
  EXPECT_GT(x.grad().abs().max().item<double>(), 1e-4);
  EXPECT_GT(table.parameters()[0].grad.abs().max().item<double>(), 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Compute, RouterPrecisionOf,
                         ::testing::Values(at::kBFloat16, at::kFloat, at::kDouble),
                         [](const auto& type) { return at::toString(type.param); });

}  // namespace
}  // namespace switchyard::models
