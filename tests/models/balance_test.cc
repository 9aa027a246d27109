#include "models/moe/losses/balance.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "core/tensor/top_k.h"
#include "models/moe/losses/losses.h"
#include "models/moe/router/router.h"
#include "models/moe/router/selection.h"
#include "parallel/single.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;

at::Tensor row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).unsqueeze(0);
}

// DeepSeek's losses: 4 tokens of one sequence, 4 experts on 2 devices, 2 chosen.
struct DeviceLosses : ::testing::Test {
  config::Moe moe;
  StepContext context;
  std::unique_ptr<parallel::Communicator> world = parallel::make_single();
  at::Tensor logits =
      at::tensor({2., 1., 0., 0., 2., 0., 1., 0., 0., 1., 2., 0., 1., 2., 0., .5}, at::kDouble)
          .view({4, 4})
          .requires_grad_();

  void SetUp() override {
    moe.set_num_experts(4);
    moe.set_top_k(2);
    moe.set_num_devices(2);
    moe.mutable_router()->set_num_groups(2);
    moe.mutable_router()->set_group_top_k(2);
    moe.mutable_balance_loss()->set_load(config::ALL_CHOICES);
    moe.mutable_balance_loss()->set_statistics(config::PER_SEQUENCE);
    moe.mutable_balance_loss()->set_device_coefficient(1);
    moe.mutable_balance_loss()->set_communication_coefficient(1);
    moe.mutable_capacity()->set_group_sequences(1);
    context.group_tokens = context.count.in_step = 4;
  }
  Routing routing() const {
    const at::Tensor p = logits.softmax(-1);
    return {logits, p, top_k_lowest_id(p, moe.top_k()), {}, {}};
  }
  BalanceSlopes slopes() const { return balance_slopes(routing(), moe, context, *world, nullptr); }
  BalanceSlopes slopes(const std::vector<int64_t>& choices) const {
    Routing other = routing();
    other.expert_TK = at::tensor(choices, at::kLong).view({4, 2});
    return balance_slopes(other, moe, context, *world, nullptr);
  }
  double value(const at::Tensor& slope_GE) const {
    return balance_loss(routing().probability_TE, slope_GE, context).item<double>();
  }
};

TEST_F(DeviceLosses, HaveTheirKnownValues) {
  EXPECT_TRUE(
      at::equal(routing().expert_TK, at::tensor({0, 1, 0, 2, 2, 1, 1, 0}, at::kLong).view({4, 2})));
  EXPECT_NEAR(value(slopes().expert_GE), 1.234137, 1e-6);
  EXPECT_NEAR(value(slopes().device_GE), 1.156792, 1e-6);
  EXPECT_NEAR(value(slopes().communication_GE), .828396, 1e-6);
}

TEST_F(DeviceLosses, AreKnownLoadsTimesKnownProbabilities) {
  constexpr double kTokens = 4;  // a slope is of the sum over them
  EXPECT_TRUE(is_near(slopes().expert_GE * kTokens, row({1.5, 1.5, 1, 0}), 1e-12));
  EXPECT_TRUE(is_near(slopes().device_GE * kTokens, row({1.5, 1.5, .5, .5}), 1e-12));
  EXPECT_TRUE(is_near(slopes().communication_GE * kTokens, row({1, 1, .5, .5}), 1e-12));
  const at::Tensor mean_GE = group_sums(routing().probability_TE, 1, context) / kTokens;
  EXPECT_TRUE(is_near(mean_GE, row({.379071, .277721, .248950, .094258}), 2e-6));
  EXPECT_TRUE(is_near(mean_GE.view({1, 2, 2}).sum(-1), row({.656792, .343208}), 2e-6));
}

TEST_F(DeviceLosses, AreOneWhereExpertsAndDevicesAreEvenlyChosen) {
  const BalanceSlopes even = slopes({0, 2, 1, 3, 0, 3, 1, 2});
  EXPECT_NEAR(value(even.expert_GE), 1, 1e-12);
  EXPECT_NEAR(value(even.device_GE), 1, 1e-12);
  EXPECT_NEAR(value(even.communication_GE), 1, 1e-12);
}

TEST_F(DeviceLosses, FallForCommunicationAloneWhereTokensStayOnOneDevice) {
  const BalanceSlopes even = slopes({0, 1, 2, 3, 0, 1, 2, 3});
  EXPECT_NEAR(value(even.expert_GE), 1, 1e-12);
  EXPECT_NEAR(value(even.device_GE), 1, 1e-12);
  EXPECT_NEAR(value(even.communication_GE), .5, 1e-12);
}

TEST_F(DeviceLosses, HaveTheGradientOfTheirValueAtAFixedLoadAndDoNotSeeAShift) {
  moe.mutable_balance_loss()->set_second_place(true);
  const BalanceSlopes constant = slopes();
  const auto expect_matches = [&](const auto& loss) {
    logits.mutable_grad() = at::Tensor();
    loss().backward();
    EXPECT_GT(logits.grad().abs().max().item<double>(), 1e-3);
    EXPECT_LT(logits.grad().sum(1).abs().max().item<double>(), 1e-15);
    expect_gradient(logits, logits.grad(), [&] { return loss().template item<double>(); },
                    {.tolerance = 1e-9});
  };
  for (const at::Tensor& slope :
       {constant.expert_GE, constant.device_GE, constant.communication_GE}) {
    expect_matches([&] { return balance_loss(routing().probability_TE, slope, context); });
  }
  expect_matches([&] {
    return balance_loss(second_place_probability(routing()), constant.second_GE, context);
  });
}

TEST_F(DeviceLosses, OfASequenceLookAtThatSequenceAlone) {
  context.group_tokens = 4;  // two sequences of 2 in one routing group
  moe.mutable_capacity()->set_group_sequences(2);
  double mean = 0;
  for (int64_t first = 0; first < 4; first += 2) {
    const at::Tensor p = routing().probability_TE.slice(0, first, first + 2);
    const at::Tensor load = at::bincount(top_k_lowest_id(p, 2).flatten(), {}, 4) / 4.0;
    mean += 0.5 * 4 * (load * p.mean(0)).sum().item<double>();
  }
  EXPECT_EQ(slopes().expert_GE.size(0), 2);
  EXPECT_NEAR(value(slopes().expert_GE), mean, 1e-12);
  EXPECT_GT(std::abs(mean - 1.234137), 1e-3);
}

TEST_F(DeviceLosses, CountTokensChoosingGivesKTimesTheShareOfAssignments) {
  moe.mutable_balance_loss()->set_load(config::TOKENS_CHOOSING);
  EXPECT_NEAR(value(slopes().expert_GE), 2 * 1.234137, 2e-6);
}

TEST_F(DeviceLosses, UnbiasedChoicesIgnoreWhatWasChosen) {
  moe.mutable_balance_loss()->set_load(config::UNBIASED_CHOICES);
  EXPECT_NEAR(value(slopes({3, 3, 3, 3, 3, 3, 3, 3}).expert_GE), 1.234137, 1e-6);
}

// DeepSeek-V3's, by its formulas: sigmoids over their sum, and the fractions of the choices that
// the bias, which here sends every token to the last experts, has not changed.
double v3_sequence_loss(const at::Tensor& logits, int64_t begin, int64_t end, int64_t k) {
  const int64_t experts = logits.size(1), tokens = end - begin;
  std::vector<double> chosen(experts), mass(experts);
  for (int64_t t = begin; t < end; ++t) {
    std::vector<double> s(experts);
    for (int64_t e = 0; e < experts; ++e) s[e] = 1 / (1 + std::exp(-logits[t][e].item<double>()));
    const double sum = std::accumulate(s.begin(), s.end(), 0.0);
    for (int64_t e = 0; e < experts; ++e) {
      mass[e] += s[e] / sum;
      chosen[e] += std::ranges::count_if(s, [&](double other) { return other > s[e]; }) < k;
    }
  }
  double loss = 0;
  const auto count = static_cast<double>(tokens);
  for (int64_t e = 0; e < experts; ++e)
    loss +=
        static_cast<double>(experts) / static_cast<double>(k) * chosen[e] / count * mass[e] / count;
  return loss;
}

TEST_F(DeviceLosses, OfASequenceOverSigmoidsIsThatOfUnbiasedChoicesWithItsGradient) {
  at::manual_seed(2);
  logits = at::randn({12, 4}, at::kDouble).requires_grad_();
  context.group_tokens = 12;  // two sequences of 6
  context.count.in_step = 12;
  moe.mutable_capacity()->set_group_sequences(2);
  moe.mutable_balance_loss()->set_load(config::UNBIASED_CHOICES);
  moe.mutable_router()->set_num_groups(1);
  moe.mutable_router()->set_score(config::SIGMOID);
  RouterInput input;
  input.logits_TE = logits;
  input.bias_E = at::tensor({0., 0., 9., 9.}, at::kDouble);
  const auto loss = [&] {
    const Routing biased = route_logits(input, moe, {});
    EXPECT_EQ(biased.expert_TK.min().item<int64_t>(), 2);
    return balance_loss(biased.probability_TE,
                        balance_slopes(biased, moe, context, *world, nullptr).expert_GE, context);
  };
  const double expected =
      (v3_sequence_loss(logits, 0, 6, 2) + v3_sequence_loss(logits, 6, 12, 2)) / 2;
  EXPECT_NEAR(loss().item<double>(), expected, 1e-12);
  loss().backward();
  EXPECT_GT(logits.grad().abs().max().item<double>(), 1e-3);
  expect_gradient(logits, logits.grad(), [&] { return loss().item<double>(); },
                  {.tolerance = 1e-9});
}

TEST_F(DeviceLosses, SecondPlaceAddsHalfAtPerfectBalance) {
  moe.mutable_balance_loss()->set_second_place(true);
  const at::Tensor p = at::full({4, 4}, .25, at::kDouble);
  const Routing even{p, p, at::tensor({0, 1, 1, 2, 2, 3, 3, 0}, at::kLong).view({4, 2}), {}, {}};
  const at::Tensor slope = balance_slopes(even, moe, context, *world, nullptr).second_GE;
  EXPECT_NEAR(balance_loss(second_place_probability(even), slope, context).item<double>(), .5,
              1e-12);
}

// Gives the pool of both layers, whose gradients run through y.
std::shared_ptr<PooledBalance> pool_of(const std::vector<Routing>& layers, const config::Moe& moe,
                                       const StepContext& context, parallel::Communicator& world,
                                       at::Tensor& y) {
  const auto pool = std::make_shared<PooledBalance>(layers.size());
  for (const Routing& layer : layers) {
    const at::Tensor sum_GE = group_sums(layer.probability_TE, 1, context);
    pool->add(balance_slopes(layer, moe, context, world, nullptr).expert_GE, sum_GE);
    y = attach_pooled(y, sum_GE, pool, 1);
  }
  return pool;
}

TEST_F(DeviceLosses, PooledOverLayersIsTheLossOfAllTokensTogetherWithItsGradientInEachLayer) {
  moe.mutable_balance_loss()->set_statistics(config::PER_GROUP);
  const at::Tensor first = logits;
  const at::Tensor second = (logits.detach().roll({1}, {1}) * 1.5).requires_grad_();
  const auto layers = [&] {
    std::vector<Routing> both;
    for (const at::Tensor& layer : {first, second}) {
      const at::Tensor p = layer.softmax(-1);
      both.push_back({layer, p, top_k_lowest_id(p, 2), {}, {}});
    }
    return both;
  };
  const auto value = [&] {
    at::Tensor y = at::zeros({1}, at::kDouble);
    return pool_of(layers(), moe, context, *world, y)->value().item<double>();
  };
  at::Tensor y = at::zeros({1}, at::kDouble).requires_grad_();
  pool_of(layers(), moe, context, *world, y);
  y.sum().backward();
  for (const at::Tensor& layer : {first, second}) {
    EXPECT_GT(layer.grad().abs().max().item<double>(), 1e-3);
    expect_gradient(layer, layer.grad(), value, {.tolerance = 1e-9});
  }

  StepContext both = context;
  both.group_tokens = both.count.in_step = 8;
  const at::Tensor p = at::concat({first, second}).softmax(-1);
  const Routing all{p, p, top_k_lowest_id(p, 2), {}, {}};
  EXPECT_NEAR(value(),
              balance_loss(p, balance_slopes(all, moe, both, *world, nullptr).expert_GE, both)
                  .item<double>(),
              1e-12);
}

TEST(BalanceFacts, TheZLossPinsTheShift) {
  const at::Tensor logits = at::randn({5, 4}, at::kDouble).requires_grad_();
  StepContext context;
  context.count.in_step = 5;
  router_z_loss(logits, context).backward();
  EXPECT_TRUE(is_near(logits.grad().sum(1), 2 * logits.detach().logsumexp(-1) / 5, 1e-12));
  EXPECT_NEAR(router_z_loss(at::zeros({5, 4}, at::kDouble), context).item<double>(),
              std::log(4) * std::log(4), 1e-12);
  expect_gradient(logits, logits.grad(),
                  [&] { return router_z_loss(logits, context).item<double>(); },
                  {.tolerance = 1e-8});
}

}  // namespace
}  // namespace switchyard::models
