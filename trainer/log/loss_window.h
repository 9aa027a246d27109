#pragma once
// What losses a run is used to, so that a spike stands out.

#include <cstdint>

namespace switchyard::trainer {

// Mean and variance of the losses so far: of the first kSteps all alike, then with weights that
// fall by a factor e in kSteps steps.
struct LossWindow {
  static constexpr int64_t kSteps = 100;
  static constexpr int64_t kLeast = 20;  // steps before which nothing is a spike

  double mean = 0, variance = 0;  // nats, nats^2
  int64_t steps = 0;              // losses added

  // How many standard deviations `loss` lies above the mean; 0 where that is not known yet, or
  // where a loss is not finite.
  double sigmas_above(double loss) const;
  // A spike counts too, so that a loss that stays high is a spike only at first. What is not
  // finite, or too large to square, is left out.
  void add(double loss);

  bool operator==(const LossWindow&) const = default;
};

}  // namespace switchyard::trainer
