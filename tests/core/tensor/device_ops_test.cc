// The CPU's own operations on rows beside the plain ones. The others are tested through the
// operations that use them: op_case.h runs each case both ways.

#include "core/tensor/device_ops.h"

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "tests/core/tensor/op_case.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard {
namespace {

using testing::draw;
using testing::is_near;
using testing::tolerance_of;

class Rows : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  // f's result on the CPU and the plain way.
  template <typename F>
  static void expect_same(F&& f) {
    const std::vector<at::Tensor> fast = f();
    const PlainOpsGuard guard;
    const std::vector<at::Tensor> plain = f();
    for (size_t i = 0; i < fast.size(); ++i) {
      EXPECT_EQ(fast[i].scalar_type(), plain[i].scalar_type()) << i;
      EXPECT_TRUE(is_near(fast[i], plain[i], tolerance_of(GetParam()))) << i;
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Types, Rows, ::testing::Values(at::kDouble, at::kFloat, at::kBFloat16),
                         [](const auto& type) { return at::toString(type.param); });

// Every row once, in another order; some slots have none.
at::Tensor positions(int64_t tokens, int64_t choices) {
  const at::Tensor slot = at::arange(tokens * choices, at::kLong);
  const at::Tensor position = (slot * 7).remainder(tokens * choices);
  return position.masked_fill(slot.remainder(5).eq(2), -1).view({tokens, choices});
}

TEST_P(Rows, AreGatheredAlike) {
  const at::Tensor source = draw({21, 6}, GetParam()), index = positions(7, 3).flatten();
  expect_same([&] { return std::vector{device_ops(source).gather_rows(source, index)}; });
  const at::Tensor nothing = source.narrow(0, 0, 0), none = at::full({2}, -1, at::kLong);
  expect_same([&] { return std::vector{device_ops(source).gather_rows(nothing, none)}; });
}

TEST_P(Rows, AreSummedAlike) {
  const at::Tensor source = draw({21, 6}, GetParam()), position = positions(7, 3);
  const at::Tensor weight = draw({7, 3}, exact_type(GetParam()), 2);
  expect_same([&] {
    const DeviceOps& ops = device_ops(source);
    return std::vector{ops.sum_rows(source, position, {}), ops.sum_rows(source, position, weight)};
  });
}

TEST_P(Rows, HaveTheSameGradients) {
  const at::Tensor source = draw({21, 6}, GetParam()), position = positions(7, 3);
  const at::Tensor weight = draw({7, 3}, exact_type(GetParam()), 2),
                   dy = draw({7, 6}, GetParam(), 3);
  const at::Tensor named = position.flatten().masked_select(position.flatten().ge(0));
  expect_same([&] {
    const auto gradients = device_ops(dy).sum_rows_backward(dy, {source, position, weight});
    return std::vector{gradients.source_RD.index_select(0, named), gradients.weight_TK};
  });
}

TEST(RowGradients, MatchFiniteDifferencesBothWays) {
  const at::Tensor source = draw({12, 3}, at::kDouble), position = positions(4, 3);
  const at::Tensor weight = draw({4, 3}, at::kDouble, 2), dy = draw({4, 3}, at::kDouble, 3);
  const auto check = [&] {
    const DeviceOps& ops = device_ops(dy);
    const auto gradients = ops.sum_rows_backward(dy, {source, position, weight});
    const auto value = [&] {
      return (ops.sum_rows(source, position, weight) * dy).sum().item<double>();
    };
    testing::expect_gradient(weight, gradients.weight_TK, value);
    for (const int64_t row : {0, 5}) {
      ASSERT_TRUE(position.eq(row).any().item<bool>());
      testing::expect_gradient(source[row], gradients.source_RD[row], value);
    }
  };
  check();
  const PlainOpsGuard guard;
  check();
}

}  // namespace
}  // namespace switchyard
