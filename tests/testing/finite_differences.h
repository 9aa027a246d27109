#pragma once
// Gradients against central differences, in float64.

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"

namespace switchyard::testing {

struct Differences {
  double step = 1e-6;
  double tolerance = 1e-7;    // absolute
  int64_t most_elements = 0;  // about so many, evenly spread; 0: all
};

// `gradient` is that of value() with respect to `values`, which are changed in place meanwhile.
inline void expect_gradient(const at::Tensor& values, const at::Tensor& gradient,
                            const std::function<double()>& value, const Differences& options = {}) {
  ASSERT_TRUE(gradient.defined());
  ASSERT_EQ(values.numel(), gradient.numel());
  const at::NoGradGuard no_grad;
  const at::Tensor flat = values.view(-1), slope = gradient.reshape(-1);
  const int64_t stride =
      options.most_elements == 0 ? 1 : std::max<int64_t>(1, flat.numel() / options.most_elements);
  for (int64_t i = 0; i < flat.numel(); i += stride) {
    const double kept = flat[i].item<double>();
    flat[i] = kept + options.step;
    const double above = value();
    flat[i] = kept - options.step;
    const double below = value();
    flat[i] = kept;
    EXPECT_NEAR((above - below) / (2 * options.step), slope[i].item<double>(), options.tolerance)
        << "element " << i;
  }
}

}  // namespace switchyard::testing
