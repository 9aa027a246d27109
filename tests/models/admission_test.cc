#include "models/moe/rules/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::integers;
using ::testing::ElementsAre;

config::Router router_with(config::SecondChoice policy, double threshold) {
  config::Router router;
  router.set_second_choice(policy);
  router.set_second_choice_threshold(threshold);
  router.set_later_choice_threshold(threshold);
  return router;
}

// Three choices of two tokens.
at::Tensor weights() { return at::tensor({.5, .3, .2, .8, .15, .05}, at::kDouble).view({2, 3}); }

// Of their later choices.
at::Tensor uniforms() { return at::tensor({.59f, .41f, .29f, .09f}).view({2, 2}); }

TEST(Admission, LetsAllAskByDefault) {
  EXPECT_FALSE(admit_later_choices(weights(), router_with(config::ALWAYS, .5), {}).defined());
}

TEST(Admission, DrawsNothingInEvaluation) {
  EXPECT_FALSE(admit_later_choices(weights(), router_with(config::AT_RANDOM, .5), {}).defined());
}

TEST(Admission, NeverLetsOnlyTheFirstAsk) {
  EXPECT_THAT(integers(admit_later_choices(weights(), router_with(config::NEVER, .5), {})),
              ElementsAre(1, 0, 0, 1, 0, 0));
}

TEST(Admission, ComparesTheShareWithTheThreshold) {
  EXPECT_THAT(
      integers(admit_later_choices(weights(), router_with(config::ABOVE_THRESHOLD, .18), {})),
      ElementsAre(1, 1, 1, 1, 0, 0));
}

TEST(Admission, MayHaveAnotherThresholdForLaterChoices) {
  config::Router router = router_with(config::ABOVE_THRESHOLD, .1);
  router.set_later_choice_threshold(.25);
  EXPECT_THAT(integers(admit_later_choices(weights(), router, {})), ElementsAre(1, 1, 0, 1, 1, 0));
}

TEST(Admission, AtRandomKeepsWithProbabilityShareOverThreshold) {
  const config::Router router = router_with(config::AT_RANDOM, .5);
  //                       .6    .4     .3    .1   share / threshold
  EXPECT_THAT(integers(admit_later_choices(weights(), router, uniforms())),
              ElementsAre(1, 1, 0, 1, 1, 1));
}

TEST(Admission, JudgesSharesWhateverTheScaleOfTheWeights) {
  const config::Router router = router_with(config::AT_RANDOM, .5);
  EXPECT_TRUE(at::equal(admit_later_choices(weights() * 2.5, router, uniforms()),
                        admit_later_choices(weights(), router, uniforms())));
}

}  // namespace
}  // namespace switchyard::models
