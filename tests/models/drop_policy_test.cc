// The drop policies that look at weights, lots and devices.

#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "models/moe/placement/assignment.h"
#include "models/moe/router/draws.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::integers;
using ::testing::ElementsAre;

at::Tensor column(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong).unsqueeze(1);
}
at::Tensor weights(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).unsqueeze(1);
}

TEST(DropPolicy, ByProbabilityKeepsTheGreatestWeightsOfEachExpert) {
  const at::Tensor ids = column({0, 0, 0, 1, 0, 1});
  const Assignment a =
      assign(ids, weights({.5, .9, .6, .3, .6, .4}), {}, {config::BY_PROBABILITY, 2, 6, 2});
  EXPECT_THAT(integers(a.position_TK),
              ElementsAre(-1, 0, 1, 1, -1, 0));  // equal weights: the earlier token
  EXPECT_EQ(a.num_dropped.item<int64_t>(), 2);
  EXPECT_THAT(integers(a.order.slot_N), ElementsAre(1, 2, 3, 5));
}

TEST(DropPolicy, ByProbabilityIgnoresTheLastBits) {
  const Assignment a =
      assign(column({0, 0}), weights({.5, .5 + 1e-12}), {}, {config::BY_PROBABILITY, 1, 2, 1});
  EXPECT_THAT(integers(a.position_TK), ElementsAre(0, -1));
}

TEST(DropPolicy, ByProbabilityLooksAtAllChoicesAlike) {
  const at::Tensor ids = at::tensor({0, 1, 1, 0}, at::kLong).view({2, 2});
  const at::Tensor w = at::tensor({.6, .4, .45, .7}, at::kDouble).view({2, 2});
  const Assignment a = assign(ids, w, {}, {config::BY_PROBABILITY, 2, 2, 1});
  EXPECT_THAT(integers(a.position_TK), ElementsAre(-1, -1, 0, 0));
}

TEST(DropPolicy, AtRandomOrderKeepsTheLowestLots) {
  AssignOptions options{config::AT_RANDOM_ORDER, 1, 4, 2};
  options.lot_TK = at::tensor({.7f, .1f, .9f, .3f});
  const Assignment a = assign(column({0, 0, 0, 0}), {}, {}, options);
  EXPECT_THAT(integers(a.position_TK), ElementsAre(-1, 0, -1, 1));
}

TEST(DropPolicy, AtRandomOrderKeepsEveryTokenEquallyOften) {
  constexpr int64_t kTokens = 8, kTrials = 2000;
  config::Moe moe;
  moe.set_num_experts(1);
  moe.set_top_k(1);
  moe.mutable_capacity()->set_policy(config::AT_RANDOM_ORDER);
  StepContext context;
  context.training = true;
  std::vector<int> kept(kTokens);
  for (context.key.step = 0; context.key.step < kTrials; ++context.key.step) {
    AssignOptions options{config::AT_RANDOM_ORDER, 1, kTokens, 2};
    options.lot_TK = draw_for_assignment(moe, kTokens, context, 0).lot_TK;
    const Assignment a = assign(at::zeros({kTokens, 1}, at::kLong), {}, {}, options);
    const std::vector<int64_t> position = integers(a.position_TK);
    for (int64_t t = 0; t < kTokens; ++t) kept[t] += position[t] >= 0;
  }
  EXPECT_EQ(std::accumulate(kept.begin(), kept.end(), 0), 2 * kTrials);
  for (const int count : kept) EXPECT_NEAR(count, kTrials / 4, 80);  // 4 standard deviations
}

// 4 experts on 2 devices, 3 slots each.
TEST(DropPolicy, DeviceBudgetDropsTheLeastWeightsOfADevice) {
  AssignOptions options{config::DEVICE_BUDGET, 4, 5, 3};
  options.num_devices = 2;
  const at::Tensor ids = column({0, 1, 1, 0, 3}), w = weights({.4, .9, .5, .6, .1});
  const Assignment a = assign(ids, w, {}, options);
  EXPECT_THAT(integers(a.order.slot_N), ElementsAre(3, 1, 2, 4));  // device 0 has lost token 0
  EXPECT_EQ(a.num_dropped.item<int64_t>(), 1);
}

TEST(DropPolicy, DeviceBudgetNeverDropsExemptTokensThoughTheyCount) {
  AssignOptions options{config::DEVICE_BUDGET, 4, 5, 3};
  options.num_devices = 2;
  options.exempt_T1 = column({1, 0, 0, 0, 0}).ne(0);
  const at::Tensor ids = column({0, 1, 1, 0, 3}), w = weights({.4, .9, .5, .6, .1});
  EXPECT_THAT(integers(assign(ids, w, {}, options).order.slot_N), ElementsAre(0, 3, 1, 4));
  options.exempt_T1 = column({1, 1, 1, 1, 0}).ne(0);  // more than the budget
  EXPECT_EQ(assign(ids, w, {}, options).num_dropped.item<int64_t>(), 0);
}

TEST(DropPolicy, ExemptSequencesAreAFixedShareAndWhole) {
  config::Moe moe;
  moe.set_num_experts(4);
  moe.set_top_k(1);
  moe.mutable_capacity()->set_policy(config::DEVICE_BUDGET);
  moe.mutable_capacity()->set_exempt_share(0.1);
  moe.mutable_capacity()->set_group_sequences(2);
  StepContext context;
  context.training = true;
  context.group_tokens = 8;  // sequences of 4
  const auto exempt = integers(draw_for_assignment(moe, 40000, context, 0).exempt_T1);
  // In every layer.
  EXPECT_EQ(exempt, integers(draw_for_assignment(moe, 40000, context, 3).exempt_T1));
  int64_t sequences = 0;
  for (size_t t = 0; t < exempt.size(); t += 4) {
    sequences += exempt[t];
    for (size_t i = 1; i < 4; ++i) ASSERT_EQ(exempt[t + i], exempt[t]);
  }
  EXPECT_NEAR(static_cast<double>(sequences), 1000, 120);  // 4 standard deviations
}

TEST(DropPolicy, EachGroupHasTheCapacityOfItsOwnTokens) {
  AssignOptions options{config::BY_POSITION, 1, 3, 2};
  options.group_capacity = {2, 1};
  const Assignment a = assign(column({0, 0, 0, 0, 0, 0}), {}, {}, options);
  EXPECT_THAT(integers(a.position_TK), ElementsAre(0, 1, -1, 0, -1, -1));
}

}  // namespace
}  // namespace switchyard::models
