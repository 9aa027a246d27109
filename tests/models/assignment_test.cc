#include "models/moe/placement/assignment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/top_k.h"
#include "models/moe/router/selection.h"
#include "models/moe/rules/admission.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::integers;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::Pointwise;

// The hand-checked example of top-1 routing: 6 tokens, 3 experts, 2 places each.
at::Tensor switch_logits() {
  return at::tensor({2., 1., 0., 1.5, 0., .5, 3., 0., 0., 0., 2., 1., 1., .5, 0., 0., .2, .9},
                    at::kDouble)
      .view({6, 3});
}

// And of top-2 routing: 4 tokens, 4 experts.
at::Tensor gshard_logits() {
  return at::tensor({2., 1., 0., -1., 2., 1.5, 0., 0., 1., 2., 0., 0., 2.5, 0., 1., 0.},
                    at::kDouble)
      .view({4, 4});
}

std::vector<int64_t> column(const at::Tensor& ids_TK, int64_t j) {
  std::vector<int64_t> result;
  for (int64_t t = 0; t < ids_TK.size(0); ++t) result.push_back(ids_TK[t][j].item<int64_t>());
  return result;
}

at::Tensor gshard_weights(const at::Tensor& expert_TK) {
  const at::Tensor chosen = gshard_logits().softmax(-1).gather(1, expert_TK);
  return chosen / chosen.sum(-1, true);
}

TEST(Assignment, SwitchKeepsTheFirstComersOfEachExpert) {
  const at::Tensor p = switch_logits().softmax(-1), ids = top_k_lowest_id(p, 1);
  EXPECT_THAT(column(ids, 0), ElementsAre(0, 0, 0, 1, 0, 2));
  const Assignment a = assign(ids, p.gather(1, ids), {}, {config::BY_POSITION, 3, 6, 2});
  EXPECT_THAT(integers(a.position_TK), ElementsAre(0, 1, -1, 0, -1, 0));
  EXPECT_EQ(a.num_dropped.item<int64_t>(), 2);
  EXPECT_THAT(integers(a.order.count_E), ElementsAre(2, 1, 1));
  EXPECT_THAT(integers(a.order.slot_N), ElementsAre(0, 1, 3, 5));
}

TEST(Assignment, WithoutDropsPositionsCountAllEarlierChoices) {
  const at::Tensor top1 = top_k_lowest_id(switch_logits(), 1);
  EXPECT_THAT(integers(assign(top1, {}, {}, {config::NO_DROP, 3, 6, 0}).position_TK),
              ElementsAre(0, 1, 2, 0, 3, 0));
  const at::Tensor top2 = top_k_lowest_id(gshard_logits(), 2);
  const Assignment a = assign(top2, {}, {}, {config::NO_DROP, 4, 4, 0});
  // Token 2's second choice is behind three first ones; where two have a place, behind those two.
  EXPECT_THAT(integers(a.position_TK), ElementsAre(0, 1, 1, 2, 0, 3, 2, 0));
}

TEST(Assignment, BatchPrioritisedServesTheSurestTokensFirst) {
  const at::Tensor p = switch_logits().softmax(-1), ids = top_k_lowest_id(p, 1);
  const Assignment a = assign(ids, p.gather(1, ids), {}, {config::BATCH_PRIORITIZED, 3, 6, 2});
  EXPECT_THAT(integers(a.position_TK), ElementsAre(1, -1, 0, 0, -1, 0));
  // Were all of one expert with room for all, they would be served in the order 2, 0, 3, 1, 5, 4.
  const Assignment queue = assign(at::zeros({6, 1}, at::kLong), p.gather(1, ids), {},
                                  {config::BATCH_PRIORITIZED, 3, 6, 6});
  EXPECT_THAT(integers(queue.position_TK), ElementsAre(1, 3, 0, 2, 5, 4));
}

TEST(Assignment, NextFreeGivesEveryTokenItsBestExpertWithRoom) {
  const at::Tensor p = switch_logits().softmax(-1), ids = top_k_lowest_id(p, 3);
  const Assignment a = assign(ids, p.gather(1, ids), {}, {config::NEXT_FREE, 3, 6, 2});
  const std::vector<int64_t> position = integers(a.position_TK);
  std::vector<int64_t> expert(6, -1), slot(6, -1);
  std::vector<double> weight(6);
  for (int64_t n = 0; n < 18; ++n) {
    if (position[n] < 0) continue;
    EXPECT_EQ(expert[n / 3], -1) << "token " << n / 3 << " has two places";
    expert[n / 3] = ids[n / 3][n % 3].item<int64_t>();
    slot[n / 3] = position[n];
    weight[n / 3] = p[n / 3][expert[n / 3]].item<double>();
  }
  EXPECT_THAT(expert, ElementsAre(0, 0, 1, 1, 2, 2));
  EXPECT_THAT(slot, ElementsAre(0, 1, 1, 0, 1, 0));
  const std::vector<double> known{.665241, .628532, .045279, .665241, .186324, .525443};
  EXPECT_THAT(weight, Pointwise(DoubleNear(1e-6), known));
  EXPECT_EQ(a.num_dropped.item<int64_t>(), 0);
}

TEST(Assignment, AllFirstChoicesComeBeforeAnySecond) {
  const at::Tensor ids = top_k_lowest_id(gshard_logits(), 2);
  EXPECT_THAT(column(ids, 0), ElementsAre(0, 0, 1, 0));
  EXPECT_THAT(column(ids, 1), ElementsAre(1, 1, 0, 2));
  const Assignment a = assign(ids, gshard_weights(ids), {}, {config::BY_POSITION, 4, 4, 2});
  //                            first, second choice of each token
  EXPECT_THAT(integers(a.position_TK), ElementsAre(0, 1, 1, -1, 0, -1, -1, 0));
  // Both later comers of expert 0, and of expert 1, stand at position 2.
  EXPECT_THAT(integers(a.order.count_E), ElementsAre(2, 2, 1, 0));
}

TEST(Assignment, RandomSecondChoiceTakesNoPlaceWhenNotAdmitted) {
  const at::Tensor ids = top_k_lowest_id(gshard_logits(), 2), weight = gshard_weights(ids);
  config::Router router;
  router.set_second_choice(config::AT_RANDOM);
  router.set_second_choice_threshold(0.5);
  const auto admitted =
      admit_later_choices(weight, router, at::tensor({.9f, .1f, .5f, .3f}).view({4, 1}));
  EXPECT_THAT(integers(admitted), ElementsAre(1, 0, 1, 1, 1, 1, 1, 1));
  const Assignment a = assign(ids, weight, admitted, {config::BY_POSITION, 4, 4, 2});
  EXPECT_THAT(integers(a.position_TK), ElementsAre(0, -1, 1, 1, 0, -1, -1, 0));
  EXPECT_THAT(integers(a.order.count_E),
              ElementsAre(2, 2, 1, 0));  // token 2's second is at 2 of expert 0
}

TEST(Assignment, NoDropKeepsEverySlotWhateverTheLoad) {
  const at::Tensor ids = at::zeros({50, 1}, at::kLong);
  const Assignment a = assign(ids, {}, {}, {config::NO_DROP, 4, 50, 1});
  EXPECT_EQ(a.num_dropped.item<int64_t>(), 0);
  EXPECT_THAT(integers(a.order.count_E), ElementsAre(50, 0, 0, 0));
}

TEST(Assignment, RoutingGroupsDoNotShareTheirPlaces) {
  const at::Tensor ids = at::zeros({8, 1}, at::kLong);
  const Assignment a = assign(ids, {}, {}, {config::BY_POSITION, 2, 4, 2});
  EXPECT_THAT(integers(a.position_TK), ElementsAre(0, 1, -1, -1, 0, 1, -1, -1));
}

TEST(Assignment, NoTokensAreLegal) {
  const Assignment a = assign(at::empty({0, 2}, at::kLong), {}, {}, {config::BY_POSITION, 3, 4, 2});
  EXPECT_EQ(a.order.slot_N.numel(), 0);
  EXPECT_THAT(integers(a.order.count_E), ElementsAre(0, 0, 0));
}

}  // namespace
}  // namespace switchyard::models
