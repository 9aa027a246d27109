#pragma once
// Comparison of tensors with the one table of tolerances.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/tensor/aten.h"

namespace switchyard::testing {

// Allowed error for a result computed in `type`, relative to the element plus the root mean square
// of the whole tensor (sums of many terms cancel, so that single elements may be tiny).
inline double tolerance_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return 1e-10;
    case at::kFloat:
      return 1e-5;
    case at::kBFloat16:
      return 4e-2;
    default:
      ADD_FAILURE() << "no tolerance for " << at::toString(type);
      return 0;
  }
}

// Compared in float64; shapes must be equal. A failure shows the worst element and how many are
// outside.
inline ::testing::AssertionResult is_near(const at::Tensor& actual, const at::Tensor& expected,
                                          double tolerance) {
  if (!actual.defined() || !expected.defined()) {
    return ::testing::AssertionFailure()
           << (actual.defined() ? "expected" : "actual") << " is undefined";
  }
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure()
           << "shape is " << actual.sizes() << ", expected " << expected.sizes();
  }
  if (actual.numel() == 0) return ::testing::AssertionSuccess();
  const at::Tensor a = actual.detach().to(at::kDouble).flatten(),
                   e = expected.detach().to(at::kDouble).flatten();
  const at::Tensor error = (a - e).abs();
  const at::Tensor allowed = tolerance * (e.abs() + e.square().mean().sqrt());
  const at::Tensor outside = error.le(allowed).logical_not();  // NaN is outside
  const int64_t count = outside.sum().item<int64_t>();
  if (count == 0) return ::testing::AssertionSuccess();
  const int64_t worst = at::where(outside, error.nan_to_num(1e300), -1).argmax().item<int64_t>();
  return ::testing::AssertionFailure() << fmt::format(
             "element {} is {}, expected {}; largest error {}, {} of {} outside tolerance {}",
             worst, a[worst].item<double>(), e[worst].item<double>(), error[worst].item<double>(),
             count, a.numel(), tolerance);
}

inline ::testing::AssertionResult is_near(const at::Tensor& actual, const at::Tensor& expected) {
  return is_near(actual, expected, tolerance_of(actual.scalar_type()));
}

// The elements of a tensor of integers or truth values, in memory order.
inline std::vector<int64_t> integers(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kLong).contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

}  // namespace switchyard::testing
