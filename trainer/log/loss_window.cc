#include "trainer/log/loss_window.h"

#include <algorithm>
#include <cmath>

namespace switchyard::trainer {

double LossWindow::sigmas_above(double loss) const {
  if (steps < kLeast || variance <= 0 || !std::isfinite(loss)) return 0;
  return (loss - mean) / std::sqrt(variance);
}

void LossWindow::add(double loss) {
  constexpr double kLargest = 1e100;
  if (!(std::abs(loss) <= kLargest)) return;
  const double weight = 1 / static_cast<double>(std::min(++steps, kSteps));
  const double distance = loss - mean;
  mean += weight * distance;
  variance = (1 - weight) * (variance + weight * distance * distance);
}

}  // namespace switchyard::trainer
