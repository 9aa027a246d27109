// Which rules draw random numbers in training, and that none does in evaluation.

#include "models/moe/router/draws.h"

#include <gtest/gtest.h>

#include "tests/models/decoder_fixture.h"
#include "tests/models/router_cases.h"

namespace switchyard::models {
namespace {

using switchyard::testing::RouterCase;

struct Draws : ::testing::TestWithParam<RouterCase> {
  static config::Model model() {
    config::Model model = config_of(GetParam()).model();
    config::Capacity& capacity = *model.mutable_moe()->mutable_capacity();
    capacity.set_eval_factor(capacity.train_factor());  // else 0, and evaluation would drop all
    return model;
  }
  // Whether passes with different values of `number`, a member, give different losses.
  template <typename Number>
  bool vary_with(Number& number, bool training) {
    number = 0;
    const at::Tensor first = instance.losses(batch(), training);
    for (number = 1; number < 4; ++number) {
      if (!at::equal(instance.losses(batch(), training), first)) return true;
    }
    return false;
  }

  DecoderInstance instance{model()};
};

TEST_P(Draws, VaryWithTheStepInTrainingAlone) {
  EXPECT_EQ(vary_with(instance.step, true), GetParam().draws);
  EXPECT_FALSE(vary_with(instance.step, false));
}

TEST_P(Draws, VaryWithTheSeedInTrainingAlone) {
  const bool hash = model().moe().router().selection() == config::HASH;  // the seed's function
  EXPECT_EQ(vary_with(instance.seed, true), GetParam().draws || hash);
  EXPECT_EQ(vary_with(instance.seed, false), hash);
}

INSTANTIATE_TEST_SUITE_P(Routers, Draws, ::testing::ValuesIn(switchyard::testing::kRouterCases),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace switchyard::models
