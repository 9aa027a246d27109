// The two-level gate against a reference that goes token by token, group by group, in plain loops.

#include "models/moe/rules/two_level.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/moe/losses/losses.h"
#include "models/moe/placement/placement.h"
#include "models/moe/router/draws.h"
#include "models/moe/router/router.h"
#include "models/moe/rules/admission.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::integers;
using switchyard::testing::is_near;
using ::testing::ElementsAre;

constexpr int64_t kTokens = 7, kGroups = 3, kSize = 4, kExperts = kGroups * kSize;
constexpr int kKeptGroups = 2, kEach = 2;

using Row = std::vector<double>;

Row row_of(const at::Tensor& values) {
  const at::Tensor flat = values.detach().contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

std::vector<int64_t> best(const Row& row, int64_t k) {
  std::vector<int64_t> ids(row.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int64_t a, int64_t b) { return row[a] > row[b]; });
  ids.resize(k);
  return ids;
}

// Softmax over the kept alone: the paper's way, with the others at -infinity.
Row softmax_over(const Row& row, const std::vector<int64_t>& kept) {
  Row weights;
  double sum = 0;
  for (const int64_t i : kept) sum += std::exp(row[i]);
  for (const int64_t i : kept) weights.push_back(std::exp(row[i]) / sum);
  return weights;
}

double chance(const Row& clean, const Row& noisy, const Row& sigma, int64_t i, int64_t k) {
  Row others = noisy;
  others.erase(others.begin() + i);
  std::sort(others.rbegin(), others.rend());
  return 0.5 * std::erfc(-(clean[i] - others[k - 1]) / (sigma[i] * std::sqrt(2.0)));
}

struct TwoLevel : ::testing::Test {
  config::Moe moe;
  RouterInput input;
  RouterDraws draws;
  StepContext context;

  void SetUp() override {
    at::manual_seed(5);
    moe.set_num_experts(kExperts);
    moe.set_top_k(kKeptGroups * kEach);
    config::Router& router = *moe.mutable_router();
    router.set_hierarchy(config::TWO_LEVEL);
    router.set_num_groups(kGroups);
    router.set_group_top_k(kKeptGroups);
    router.set_weighting(config::RENORMALIZE);
    router.set_weight_norm(1);
    router.set_route_scale(1);
    router.set_noise(config::LEARNED_NOISE);
    const auto normal = [](int64_t width) { return at::randn({kTokens, width}, at::kDouble); };
    input.logits_TE = normal(kExperts).requires_grad_();
    input.noise_logits_TE = normal(kExperts).requires_grad_();
    input.group_logits_TA = normal(kGroups).requires_grad_();
    input.group_noise_logits_TA = normal(kGroups).requires_grad_();
    draws.normal_TE = normal(kExperts);
    draws.group_normal_TA = normal(kGroups);
    context.count.in_step = context.count.in_micro_batch = kTokens;
  }
  Routing route() const { return route_logits(input, moe, draws); }
  at::Tensor load(const Routing& routing) const {
    return load_from(load_terms(routing, context), moe);
  }
  at::Tensor loss() const {
    const Routing routing = route();
    return cv_loss(load(routing), context, 1) +
           cv_loss(importance_of(routing, kExperts, context), context, 1);
  }
};

// The gates of one token, one after another.
struct Reference {
  Row weight = Row(kExperts);  // 0 where not chosen
  Row group_chance;
  std::vector<int64_t> groups;
  Row chance_within = Row(kExperts);  // of the experts of chosen groups

  Reference(const TwoLevel& test, int64_t t) {
    const auto& [input, draws] = std::pair{test.input, test.draws};
    const Gate outer(input.group_logits_TA[t], input.group_noise_logits_TA[t],
                     draws.group_normal_TA[t]);
    groups = best(outer.noisy, kKeptGroups);
    const Row group_weight = softmax_over(outer.noisy, groups);
    for (int64_t g = 0; g < kGroups; ++g) {
      group_chance.push_back(chance(outer.clean, outer.noisy, outer.sigma, g, kKeptGroups));
    }
    for (int j = 0; j < kKeptGroups; ++j) {
      const int64_t first = groups[j] * kSize;
      const auto part = [&](const at::Tensor& rows) { return rows[t].narrow(0, first, kSize); };
      const Gate inner(part(input.logits_TE), part(input.noise_logits_TE), part(draws.normal_TE));
      const auto experts = best(inner.noisy, kEach);
      const Row expert_weight = softmax_over(inner.noisy, experts);
      for (int i = 0; i < kEach; ++i) {
        weight[first + experts[i]] = group_weight[j] * expert_weight[i];
      }
      for (int64_t e = 0; e < kSize; ++e) {
        chance_within[first + e] = chance(inner.clean, inner.noisy, inner.sigma, e, kEach);
      }
    }
  }

 private:
  struct Gate {
    Row clean, noisy, sigma;
    Gate(const at::Tensor& logits, const at::Tensor& noise_logits, const at::Tensor& normal)
        : clean(row_of(logits)), noisy(clean), sigma(row_of(noise_logits)) {
      const Row draw = row_of(normal);
      for (size_t i = 0; i < clean.size(); ++i) {
        sigma[i] = std::log1p(std::exp(sigma[i])) + 0.01;
        noisy[i] += sigma[i] * draw[i];
      }
    }
  };
};

TEST_F(TwoLevel, WeighsAsTheReference) {
  const Routing routing = route();
  const at::Tensor gates = at::zeros({kTokens, kExperts}, at::kDouble)
                               .scatter(1, routing.expert_TK, routing.weight_TK.detach());
  for (int64_t t = 0; t < kTokens; ++t) {
    const Reference expected(*this, t);
    EXPECT_TRUE(is_near(gates[t], at::tensor(expected.weight, at::kDouble), 1e-12)) << t;
    EXPECT_NEAR(gates[t].sum().item<double>(), 1, 1e-12);
  }
  EXPECT_TRUE(is_near(routing.probability_TE.sum(1), at::ones({kTokens}, at::kDouble), 1e-12));
}

TEST_F(TwoLevel, LoadIsThatOfTheGroupTimesTheShareWithin) {
  Row group_load(kGroups), group_tokens(kGroups), within(kExperts), expected(kExperts);
  for (int64_t t = 0; t < kTokens; ++t) {
    const Reference token(*this, t);
    for (int64_t g = 0; g < kGroups; ++g) group_load[g] += token.group_chance[g];
    for (const int64_t g : token.groups) ++group_tokens[g];
    for (int64_t e = 0; e < kExperts; ++e) within[e] += token.chance_within[e];
  }
  for (int64_t e = 0; e < kExperts; ++e) {
    expected[e] = group_load[e / kSize] * within[e] / std::max(1.0, group_tokens[e / kSize]);
  }
  EXPECT_TRUE(is_near(load(route()), at::tensor(expected, at::kDouble), 1e-12));
}

TEST_F(TwoLevel, WithoutNoiseTheLoadIsTheCount) {
  draws = {};
  const Routing routing = route();
  const at::Tensor count = at::zeros({kExperts}, at::kDouble)
                               .scatter_add(0, routing.expert_TK.flatten(),
                                            at::ones({kTokens * moe.top_k()}, at::kDouble));
  EXPECT_TRUE(is_near(load(routing), count, 1e-12));
}

TEST_F(TwoLevel, PaddingCountsNowhere) {
  context.is_real_T = first_are_real(4, kTokens);
  const at::Tensor with_padding = load(route());
  for (at::Tensor* rows :
       {&input.logits_TE, &input.noise_logits_TE, &input.group_logits_TA,
        &input.group_noise_logits_TA, &draws.normal_TE, &draws.group_normal_TA}) {
    *rows = rows->narrow(0, 0, 4);
  }
  context.is_real_T = at::Tensor();
  EXPECT_TRUE(is_near(with_padding, load(route()), 1e-12));
}

TEST_F(TwoLevel, LossesHaveTheirGradientsThroughBothGates) {
  loss().backward();
  for (at::Tensor* leaf : {&input.logits_TE, &input.noise_logits_TE, &input.group_logits_TA,
                           &input.group_noise_logits_TA}) {
    EXPECT_GT(leaf->grad().abs().max().item<double>(), 1e-3);
    expect_gradient(*leaf, leaf->grad(), [&] { return loss().item<double>(); });
  }
}

TEST_F(TwoLevel, ReplaysChoices) {
  const Routing first = route();
  input.chosen_TK = first.expert_TK.flip(0);
  const Routing again = route();
  EXPECT_TRUE(at::equal(again.expert_TK, input.chosen_TK));
  EXPECT_TRUE(is_near(again.weight_TK.sum(1), at::ones({kTokens}, at::kDouble), 1e-12));
}

TEST_F(TwoLevel, OrdersChoicesByTheirPlaceWithinTheGroup) {
  const Routing routing = route();
  for (int64_t t = 0; t < kTokens; ++t) {
    const Reference expected(*this, t);
    for (int64_t j = 0; j < kKeptGroups * kEach; ++j) {
      const auto id = routing.expert_TK[t][j].item<int64_t>();
      EXPECT_EQ(id / kSize, expected.groups[j % kKeptGroups]);
      if (j >= kKeptGroups) {  // a group's second is lighter than its first
        EXPECT_LE(routing.weight_TK[t][j].item<double>(),
                  routing.weight_TK[t][j - kKeptGroups].item<double>());
      }
    }
  }
}

TEST_F(TwoLevel, EntropyOfEqualLogitsIsThatOfAllExperts) {
  draws = {};
  input.logits_TE = at::zeros({kTokens, kExperts}, at::kDouble);
  input.group_logits_TA = at::zeros({kTokens, kGroups}, at::kDouble);
  context.group_tokens = kTokens;
  const Routing routing = route();
  const Placement placement = place_slots(routing, moe, context, {});
  EXPECT_NEAR(sums_of(routing, placement, moe, context).router_entropy.item<double>(),
              kTokens * std::log(kExperts), 1e-11);
}

// The gates within groups that are computed are the same rows of the product with all of them.
TEST_F(TwoLevel, ComputesTheLogitsOfTheChosenGroupsAlone) {
  constexpr int64_t kWidth = 5;
  at::Tensor x = at::randn({kTokens, kWidth}, at::kDouble).requires_grad_();
  at::Tensor weight = at::randn({kExperts, kWidth}, at::kDouble).requires_grad_();
  const at::Tensor group_TL = choose_groups(input, moe, draws);
  const at::Tensor logits = logits_within_groups(x, weight, group_TL, kGroups);
  const at::Tensor all_TAI = at::mm(x, weight.t()).view({kTokens, kGroups, kSize});
  const at::Tensor expected =
      all_TAI.gather(1, group_TL.unsqueeze(2).expand({kTokens, kKeptGroups, kSize})).flatten(1);
  EXPECT_TRUE(is_near(logits, expected, 1e-12));
  const at::Tensor probe = at::randn(logits.sizes(), at::kDouble);
  (logits * probe).sum().backward();
  const auto value = [&] {
    return (logits_within_groups(x, weight, group_TL, kGroups) * probe).sum().item<double>();
  };
  expect_gradient(x, x.grad(), value);
  expect_gradient(weight, weight.grad(), value);
}

// Given the groups, logits and noise of those alone make the routing that all of them make.
TEST_F(TwoLevel, RoutesAlikeFromTheChosenGroupsAlone) {
  context.training = true;
  context.tokens = TokenMap(3);
  const at::Tensor all_TA = at::arange(kGroups, at::kLong).expand({kTokens, kGroups}).contiguous();
  draws.normal_TE = draw_within_groups(moe, all_TA, context, 2, at::kDouble);
  const Routing dense = route();
  const at::Tensor& group_TL = dense.groups.group_TL;
  const auto of_chosen = [&](const at::Tensor& rows) {
    return rows.view({kTokens, kGroups, kSize})
        .gather(1, group_TL.unsqueeze(2).expand({kTokens, kKeptGroups, kSize}))
        .flatten(1);
  };
  input.group_TL = group_TL;
  input.logits_TE = of_chosen(input.logits_TE);
  input.noise_logits_TE = of_chosen(input.noise_logits_TE);
  draws.normal_TE = draw_within_groups(moe, group_TL, context, 2, at::kDouble);
  const Routing sparse = route();
  EXPECT_TRUE(at::equal(sparse.expert_TK, dense.expert_TK));
  EXPECT_TRUE(at::equal(sparse.weight_TK, dense.weight_TK));
  EXPECT_TRUE(at::equal(load(sparse), load(dense)));
}

TEST(Admission, AGroupOfHalfTheWeightOrLessAdmitsOnlyItsBestExpert) {
  const at::Tensor share = at::tensor({.7, .3, .5, .5, .3, .7}, at::kDouble).view({3, 2});
  EXPECT_THAT(integers(admit_by_importance(share, 2)),
              ElementsAre(1, 1, 1, 0, 1, 1, 0, 0, 1, 1, 0, 1));
}

}  // namespace
}  // namespace switchyard::models
