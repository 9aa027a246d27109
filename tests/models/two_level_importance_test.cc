// The two-level gate with a capacity at each level, and its balance losses, against references that
// fill the groups' rows one after another.

#include <algorithm>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "models/moe/losses/balance.h"
#include "models/moe/losses/losses.h"
#include "models/moe/placement/placement.h"
#include "models/moe/router/router.h"
#include "models/moe/rules/two_level.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::integers;

constexpr int64_t kTokens = 48, kGroupTokens = 24, kGroups = 3, kSize = 4;
constexpr int64_t kExperts = kGroups * kSize, kPadding = 5;
constexpr int kKept = 2, kEach = 2;

struct ByImportance : ::testing::Test {
  config::Moe moe;
  RouterInput input;
  StepContext context;

  void SetUp() override {
    at::manual_seed(3);
    moe.set_num_experts(kExperts);
    moe.set_top_k(kKept * kEach);
    config::Router& router = *moe.mutable_router();
    router.set_hierarchy(config::TWO_LEVEL_BY_IMPORTANCE);
    router.set_num_groups(kGroups);
    router.set_group_top_k(kKept);
    router.set_weighting(config::RENORMALIZE);
    router.set_weight_norm(1);
    router.set_route_scale(1);
    config::Capacity& capacity = *moe.mutable_capacity();
    capacity.set_policy(config::BY_POSITION);
    capacity.set_train_factor(1.25);
    capacity.set_second_level_factor(1.6);
    moe.mutable_balance_loss()->set_coefficient(1);
    moe.mutable_balance_loss()->set_statistics(config::PER_GROUP);
    moe.mutable_balance_loss()->set_load(config::FIRST_CHOICE);
    input.logits_TE = at::randn({kTokens, kExperts}, at::kDouble).requires_grad_();
    input.group_logits_TA = at::randn({kTokens, kGroups}, at::kDouble).requires_grad_();
    context.training = true;
    context.group_tokens = kGroupTokens;
    context.is_real_T = first_are_real(kTokens - kPadding, kTokens);
    context.count.in_step = context.count.in_micro_batch = kTokens - kPadding;
  }
  Routing route() const { return route_logits(input, moe, {}); }
  at::Tensor loss(RoutingDecision& decision) const {
    const Routing routing = route();
    const auto world = parallel::make_single();
    if (!decision.enters_T1.defined()) {
      decision.enters_T1 = place_slots(routing, moe, context, {}).enters_T1;
      decide_losses(routing, moe, context, *world, nullptr, decision);
    }
    RoutingSums values;
    return router_losses(routing, moe, context, decision, 1, values);
  }
};

// Rows of the groups of one routing group, in the order in which they were given.
struct Row {
  int64_t token, choice;
  bool whole;  // importance 1
};
using Rows = std::vector<std::vector<Row>>;

// Real tokens of the routing group that begins at `first`.
int64_t real_end(int64_t first) { return std::min(first + kGroupTokens, kTokens - kPadding); }
int64_t rows_of_group(int64_t first) {
  return static_cast<int64_t>(1.25 * static_cast<double>(real_end(first) - first) / kGroups);
}
int64_t rows_of_expert(int64_t first) {
  return static_cast<int64_t>(1.6 * static_cast<double>(rows_of_group(first)) / kSize);
}

Rows fill_rows(const Routing& routing, int64_t first, int64_t capacity) {
  Rows rows(kGroups);
  for (int64_t g = 0; g < kKept; ++g) {
    for (int64_t t = first; t < real_end(first); ++t) {
      auto& of_group = rows[routing.groups.group_TL[t][g].item<int64_t>()];
      const bool whole = routing.groups.share_TL[t][g].item<double>() > 0.5;
      if (static_cast<int64_t>(of_group.size()) < capacity) of_group.push_back({t, g, whole});
    }
  }
  return rows;
}

TEST_F(ByImportance, EachLevelKeepsAsManyAsItHasRoomFor) {
  const Routing routing = route();
  const Placement placement = place_slots(routing, moe, context, {});
  std::set<int64_t> expected;
  int64_t asked = 0, full_groups = 0;
  for (int64_t first = 0; first < kTokens; first += kGroupTokens) {
    const int64_t capacity = rows_of_group(first);
    const Rows rows = fill_rows(routing, first, capacity);
    std::vector<int64_t> used(kExperts);
    for (const auto& of_group : rows) {
      full_groups += static_cast<int64_t>(of_group.size()) == capacity;
      for (int64_t j = 0; j < kEach; ++j) {
        for (const Row& row : of_group) {
          const int64_t slot = (row.token * kEach + j) * kKept + row.choice;
          if (j > 0 && !row.whole) continue;
          if (used[routing.expert_TK.flatten()[slot].item<int64_t>()]++ < rows_of_expert(first))
            expected.insert(slot);
        }
      }
    }
    for (const auto& of_group : fill_rows(routing, first, kTokens))
      for (const Row& row : of_group) asked += row.whole ? kEach : 1;
  }
  EXPECT_GT(full_groups, 2);
  std::set<int64_t> kept;
  for (const int64_t slot : integers(placement.assignment.order.slot_N)) kept.insert(slot);
  EXPECT_EQ(kept, expected);
  EXPECT_EQ(placement.assignment.num_dropped.item<int64_t>(),
            asked - static_cast<int64_t>(expected.size()));
}

// Sum over gates of width * sum_i f_i P_i, weighed by the tokens that the gate counts.
TEST_F(ByImportance, BalanceIsThatOfTheGateOverGroupsAndOfThoseWithin) {
  const Routing routing = route();
  const at::Tensor outer = routing.probability_TE.detach();
  const at::Tensor inner = routing.groups.probability_TLI.detach();
  double expected = 0;
  for (int64_t first = 0; first < kTokens; first += kGroupTokens) {
    const int64_t end = real_end(first);
    std::vector<double> count(kGroups), mass(kGroups);
    for (int64_t t = first; t < end; ++t) {
      ++count[routing.groups.group_TL[t][0].item<int64_t>()];
      for (int64_t a = 0; a < kGroups; ++a) mass[a] += outer[t][a].item<double>();
    }
    for (int64_t a = 0; a < kGroups; ++a)
      expected += kGroups * count[a] * mass[a] / static_cast<double>(end - first);
    for (const auto& of_group : fill_rows(routing, first, rows_of_group(first))) {
      std::vector<double> chosen(kSize), sum(kSize);
      double rows = 0;
      for (const Row& row : of_group) {
        if (!row.whole) continue;
        ++rows;
        ++chosen[routing.expert_TK[row.token][0].item<int64_t>() % kSize];
        for (int64_t i = 0; i < kSize; ++i) sum[i] += inner[row.token][0][i].item<double>();
      }
      for (int64_t i = 0; i < kSize; ++i)
        expected += kSize * chosen[i] * sum[i] / std::max(1.0, rows);
    }
  }
  RoutingDecision decision;
  EXPECT_NEAR(loss(decision).item<double>(), expected / (kTokens - kPadding), 1e-12);
}

TEST_F(ByImportance, BalanceHasItsGradientInTheLogitsOfBothLevels) {
  RoutingDecision decision;
  loss(decision).backward();
  for (at::Tensor* leaf : {&input.logits_TE, &input.group_logits_TA}) {
    EXPECT_GT(leaf->grad().abs().max().item<double>(), 1e-3);
    EXPECT_LT(leaf->grad().sum(1).abs().max().item<double>(), 1e-12);  // shifts change nothing
    expect_gradient(*leaf, leaf->grad(), [&] { return loss(decision).item<double>(); });
  }
}

// Equal logits: the best group has half of the weight, which is not more than half, so that no
// token enters within groups.
TEST_F(ByImportance, HalfOfTheWeightIsNotMore) {
  input.group_logits_TA = at::zeros({kTokens, kGroups}, at::kDouble);
  const Placement placement = place_slots(route(), moe, context, {});
  EXPECT_EQ(placement.enters_T1.sum().item<int64_t>(), 0);
  EXPECT_EQ(placement.admitted_TK.sum().item<int64_t>(), (kTokens - kPadding) * kKept);
}

TEST_F(ByImportance, TwoLevelsWithoutImportanceEnterAll) {
  moe.mutable_router()->set_hierarchy(config::TWO_LEVEL);
  const at::Tensor enters_T1 = place_slots(route(), moe, context, {}).enters_T1;
  EXPECT_EQ(enters_T1.sum().item<int64_t>(), kTokens - kPadding);
}

// Tokens spread evenly over groups and experts, each sure of its choice by little.
TEST_F(ByImportance, IsTwoAtPerfectBalance) {
  moe.mutable_router()->set_hierarchy(config::TWO_LEVEL);
  context.is_real_T = at::Tensor();
  context.count.in_step = context.count.in_micro_batch = kTokens;
  const at::Tensor token = at::arange(kTokens, at::kLong);
  const auto nearly = [&](const at::Tensor& id, int64_t width) {
    return at::one_hot(id.remainder(width), width).to(at::kDouble) * 1e-9;
  };
  input.group_logits_TA = nearly(token, kGroups);
  input.logits_TE = nearly(token.floor_divide(kGroups), kSize).repeat({1, kGroups});
  RoutingDecision decision;
  EXPECT_NEAR(loss(decision).item<double>(), 2, 1e-8);
}

}  // namespace
}  // namespace switchyard::models
