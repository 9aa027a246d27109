#include "models/moe/rules/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

config::Router router_with(config::SecondChoice policy, double threshold) {
  config::Router router;
  router.set_second_choice(policy);
  router.set_second_choice_threshold(threshold);
  router.set_later_choice_threshold(threshold);
  return router;
}

// Three choices of two tokens.
at::Tensor weights() { return at::tensor({.5, .3, .2, .8, .15, .05}, at::kDouble).view({2, 3}); }

TEST(Admission, LetsAllAskByDefault) {
  EXPECT_THAT(admit_later_choices(weights(), router_with(config::ALWAYS, .5), {}), IsEmpty());
}

TEST(Admission, DrawsNothingInEvaluation) {
  EXPECT_THAT(admit_later_choices(weights(), router_with(config::AT_RANDOM, .5), {}), IsEmpty());
}

TEST(Admission, NeverLetsOnlyTheFirstAsk) {
  EXPECT_THAT(admit_later_choices(weights(), router_with(config::NEVER, .5), {}),
              ElementsAre(1, 0, 0, 1, 0, 0));
}

TEST(Admission, ComparesTheShareWithTheThreshold) {
  EXPECT_THAT(admit_later_choices(weights(), router_with(config::ABOVE_THRESHOLD, .18), {}),
              ElementsAre(1, 1, 1, 1, 0, 0));
}

TEST(Admission, MayHaveAnotherThresholdForLaterChoices) {
  config::Router router = router_with(config::ABOVE_THRESHOLD, .1);
  router.set_later_choice_threshold(.25);
  EXPECT_THAT(admit_later_choices(weights(), router, {}), ElementsAre(1, 1, 0, 1, 1, 0));
}

TEST(Admission, AtRandomKeepsWithProbabilityShareOverThreshold) {
  const config::Router router = router_with(config::AT_RANDOM, .5);
  //                       .6    .4     .3    .1   share / threshold
  EXPECT_THAT(admit_later_choices(weights(), router, {.59f, .41f, .29f, .09f}),
              ElementsAre(1, 1, 0, 1, 1, 1));
}

TEST(Admission, JudgesSharesWhateverTheScaleOfTheWeights) {
  const config::Router router = router_with(config::AT_RANDOM, .5);
  EXPECT_EQ(admit_later_choices(weights() * 2.5, router, {.59f, .41f, .29f, .09f}),
            admit_later_choices(weights(), router, {.59f, .41f, .29f, .09f}));
}

}  // namespace
}  // namespace switchyard::models
