#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace switchyard::optim {
namespace {

// 0 before `begin`, 1 from the last step on, linear between.
double progress(double step, double begin, double num_steps) {
  return std::clamp((step - begin) / std::max(1.0, num_steps - 1 - begin), 0.0, 1.0);
}

// Progress through the last decay_fraction of the steps, which begins after the warm-up.
double final_decay(const config::Optimizer& o, double step, double num_steps) {
  const double begin = std::max(static_cast<double>(o.warmup_steps()),
                                std::floor(num_steps * (1 - o.decay_fraction())));
  return progress(step, begin, num_steps);
}

double decayed(const config::Optimizer& o, double step, double num_steps) {
  const double warmup = static_cast<double>(o.warmup_steps());
  const auto toward_min = [&](double share) { return o.lr() + (o.min_lr() - o.lr()) * share; };
  switch (o.schedule()) {
    case config::COSINE: {
      const double angle = std::numbers::pi * progress(step, warmup, num_steps);
      return toward_min((1 - std::cos(angle)) / 2);
    }
    case config::LINEAR:
      return toward_min(progress(step, warmup, num_steps));
    case config::INVERSE_SQRT: {
      const double reference = std::max(1.0, warmup + static_cast<double>(o.hold_steps()));
      const double rate =
          std::max(o.min_lr(), o.lr() * std::sqrt(reference / std::max(reference, step)));
      return o.decay_fraction() > 0 ? rate + (o.min_lr() - rate) * final_decay(o, step, num_steps)
                                    : rate;
    }
    case config::CONSTANT_THEN_DECAY: {
      return toward_min(final_decay(o, step, num_steps));
    }
    default:
      return o.lr();
  }
}

}  // namespace

double learning_rate(const config::Optimizer& optimizer, int64_t step, int64_t num_steps) {
  if (step < optimizer.warmup_steps()) {
    return optimizer.lr() * static_cast<double>(step + 1) /
           static_cast<double>(optimizer.warmup_steps());
  }
  return decayed(optimizer, static_cast<double>(step), static_cast<double>(num_steps));
}

}  // namespace switchyard::optim
