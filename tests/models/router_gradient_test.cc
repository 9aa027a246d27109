// Every router's weights against finite differences in float64, in logits and noise logits; and
// what holds for the derivatives of the losses whatever the router.

#include <gtest/gtest.h>

#include "models/moe/losses.h"
#include "models/moe/router.h"
#include "models/moe/selection.h"
#include "parallel/single.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

constexpr int64_t kTokens = 6, kExperts = 8;

config::Moe plain(int k, config::Weighting weighting) {
  config::Moe moe;
  moe.set_num_experts(kExperts);
  moe.set_top_k(k);
  config::Router& router = *moe.mutable_router();
  router.set_score(config::SOFTMAX);
  router.set_selection(config::TOP_K);
  router.set_weighting(weighting);
  router.set_weight_norm(1);
  router.set_route_scale(1);
  return moe;
}

config::Moe biased_groups() {
  config::Moe moe = plain(4, config::RENORMALIZE);
  moe.mutable_router()->set_score(config::SIGMOID);
  moe.mutable_router()->set_selection_bias(true);
  moe.mutable_router()->set_num_groups(4);
  moe.mutable_router()->set_group_top_k(2);
  moe.mutable_router()->set_group_score_experts(2);
  moe.mutable_router()->set_route_scale(2.5);
  return moe;
}

config::Moe noisy() {
  config::Moe moe = plain(3, config::RENORMALIZE);
  moe.mutable_router()->set_noise(config::LEARNED_NOISE);
  return moe;
}

config::Moe with(config::Moe moe, config::Selection selection) {
  moe.mutable_router()->set_selection(selection);
  return moe;
}

config::Moe p_norm() {
  config::Moe moe = plain(3, config::RENORMALIZE);
  moe.mutable_router()->set_weight_norm(2);
  return moe;
}

struct Case {
  const char* name;
  config::Moe moe;
};

struct RouterGradient : ::testing::TestWithParam<Case> {
  RouterInput input;
  RouterDraws draws;
  at::Tensor probe;

  void SetUp() override {
    at::manual_seed(11);
    const auto normal = [] { return at::randn({kTokens, kExperts}, at::kDouble); };
    input.logits_TE = normal().requires_grad_();
    input.noise_logits_TE = normal().requires_grad_();
    input.token_ids_T = at::arange(kTokens, at::kLong);
    const config::Router& router = GetParam().moe.router();
    if (router.selection_bias()) input.bias_E = at::randn({kExperts}, at::kDouble) * 0.1;
    if (router.noise() == config::LEARNED_NOISE) draws.normal_TE = normal();
    if (router.selection() == config::SAMPLED) draws.gumbel_TE = normal();
    probe = at::randn({kTokens, GetParam().moe.top_k()}, at::kDouble);
  }
  at::Tensor value() const {
    return (route_logits(input, GetParam().moe, draws).weight_TK * probe).sum();
  }
};

TEST_P(RouterGradient, AgreesWithFiniteDifferences) {
  value().backward();
  constexpr double kStep = 1e-6;
  for (at::Tensor* leaf : {&input.logits_TE, &input.noise_logits_TE}) {
    if (!leaf->grad().defined()) continue;
    const at::Tensor grad = leaf->grad().flatten();
    const at::NoGradGuard no_grad;
    const at::Tensor flat = leaf->view(-1);
    for (int64_t i = 0; i < flat.numel(); ++i) {
      flat[i] += kStep;
      const double above = value().item<double>();
      flat[i] -= 2 * kStep;
      const double below = value().item<double>();
      flat[i] += kStep;
      EXPECT_NEAR((above - below) / (2 * kStep), grad[i].item<double>(), 1e-7) << i;
    }
  }
  EXPECT_GT(input.logits_TE.grad().abs().max().item<double>(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Routers, RouterGradient,
    ::testing::Values(Case{"Switch", plain(1, config::RAW)}, Case{"Raw", plain(3, config::RAW)},
                      Case{"Renormalized", plain(3, config::RENORMALIZE)}, Case{"PNorm", p_norm()},
                      Case{"Dense", plain(8, config::RAW)}, Case{"BiasedGroups", biased_groups()},
                      Case{"Noisy", noisy()},
                      Case{"Sampled", with(plain(2, config::RENORMALIZE), config::SAMPLED)},
                      Case{"Hash", with(plain(2, config::RENORMALIZE), config::HASH)}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace switchyard::models
