#include "trainer/log/loss_window.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

namespace switchyard::trainer {
namespace {

double loss_at(int64_t step) { return 3 + std::sin(0.7 * static_cast<double>(step)); }

LossWindow window_of(int64_t steps) {
  LossWindow window;
  for (int64_t step = 0; step < steps; ++step) window.add(loss_at(step));
  return window;
}

// The weights as they are defined: alike at first, then each step takes a hundredth of the rest.
TEST(LossWindow, IsTheWeightedMeanAndVarianceOfTheLosses) {
  for (const int64_t steps : {1, 20, 100, 101, 350}) {
    std::vector<double> weight(static_cast<size_t>(std::min<int64_t>(steps, 100)),
                               1.0 / static_cast<double>(std::min<int64_t>(steps, 100)));
    while (static_cast<int64_t>(weight.size()) < steps) {
      for (double& w : weight) w *= 0.99;
      weight.push_back(0.01);
    }
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < steps; ++i) mean += weight[i] * loss_at(i);
    for (int64_t i = 0; i < steps; ++i) variance += weight[i] * std::pow(loss_at(i) - mean, 2);
    const LossWindow window = window_of(steps);
    EXPECT_NEAR(window.mean, mean, 1e-12) << steps;
    EXPECT_NEAR(window.variance, variance, 1e-12) << steps;
    const double sigmas = steps < 20 ? 0 : (9 - mean) / std::sqrt(variance);
    EXPECT_NEAR(window.sigmas_above(9), sigmas, 1e-9) << steps;
  }
}

TEST(LossWindow, LeavesOutWhatIsNotFinite) {
  LossWindow window = window_of(30);
  for (const double loss : {std::nan(""), std::numeric_limits<double>::infinity(), 1e200}) {
    window.add(loss);
    EXPECT_EQ(window, window_of(30));
    EXPECT_TRUE(std::isfinite(loss) || window.sigmas_above(loss) == 0);
  }
}

TEST(LossWindow, OfEqualLossesKnowsNoSpike) {
  LossWindow window;
  for (int i = 0; i < 50; ++i) window.add(2);
  EXPECT_EQ(window.sigmas_above(3), 0);
}

}  // namespace
}  // namespace switchyard::trainer
