#pragma once
// What losses a run is used to, so that a spike stands out.

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace switchyard::trainer {

// Mean and variance of the losses so far. The first kSteps weigh alike; from then on weights fall
// by a factor e in kSteps steps.
struct LossWindow {
  static constexpr int64_t kSteps = 100;
  static constexpr int64_t kLeast = 20;  // steps before which nothing is a spike

  double mean = 0, variance = 0;  // nats, nats^2
  int64_t steps = 0;              // losses added

  // How many standard deviations `loss` lies above the mean; 0 where that is not known yet, or
  // where a loss is not finite.
  double sigmas_above(double loss) const {
    if (steps < kLeast || variance <= 0 || !std::isfinite(loss)) return 0;
    return (loss - mean) / std::sqrt(variance);
  }
  // A spike counts too, so that a loss that stays high is a spike only at first. What is not
  // finite, or too large to square, is left out.
  void add(double loss) {
    constexpr double kLargest = 1e100;
    if (!(std::abs(loss) <= kLargest)) return;
    const double weight = 1 / static_cast<double>(std::min(++steps, kSteps));
    const double distance = loss - mean;
    mean += weight * distance;
    variance = (1 - weight) * (variance + weight * distance * distance);
  }

  bool operator==(const LossWindow&) const = default;
};

}  // namespace switchyard::trainer
