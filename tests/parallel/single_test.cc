#include "parallel/single.h"

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "tests/parallel/communicator_suite.h"

namespace switchyard::parallel {
namespace {

class SingleConforms : public testing::TestWithParam<suite::Behaviour> {};

TEST_P(SingleConforms, ToTheSuite) { GetParam().check(*make_single()); }

INSTANTIATE_TEST_SUITE_P(Suite, SingleConforms, testing::ValuesIn(suite::behaviours()),
                         [](const auto& test) { return test.param.name; });

TEST(Single, RefusesToReceiveOtherThanItSends) {
  const auto world = make_single();
  char data[4] = {};
  EXPECT_THROW(world->all_to_all_v(data, data, {{1}, {2}, 1}, "rows"), CheckError);
  EXPECT_THROW(world->all_to_all_v(data, data, {{1, 1}, {1, 1}, 1}, "rows"), CheckError);
}

TEST(Single, RefusesToReduceBFloat16) {
  uint16_t data[2] = {};
  EXPECT_THROW(make_single()->all_reduce(data, 2, DType::kBFloat16, ReduceOp::kSum, "grad"),
               CheckError);
}

TEST(SingleDeathTest, AbortEndsTheProcessWithTheCodeAndTheMessage) {
  EXPECT_EXIT(make_single()->abort(5, "no way on"), testing::ExitedWithCode(5), "no way on");
}

}  // namespace
}  // namespace switchyard::parallel
