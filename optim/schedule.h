#pragma once
// The learning rate as a function of the step.

#include <cstdint>

#include "core/config/run_config.pb.h"

namespace switchyard::optim {

// Rate of step `step` (from 0) of `num_steps`, from the optimizer's config in force
// (core/config/schedule.h): linear warm-up from lr / warmup_steps to lr, then
//   CONSTANT             lr
//   COSINE, LINEAR       down to min_lr at the last step
//   INVERSE_SQRT         lr for hold_steps, then lr * sqrt((warmup + hold) / step), at least min_lr
//                        (T5, Switch: no warm-up, 10000 held, lr 0.01)
//   CONSTANT_THEN_DECAY  lr, then linearly to min_lr over the last decay_fraction of the steps
//                        (WSD)
// Beyond num_steps the rate stays at its last value.
double learning_rate(const config::Optimizer& optimizer, int64_t step, int64_t num_steps);

}  // namespace switchyard::optim
