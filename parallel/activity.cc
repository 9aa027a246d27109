#include "parallel/activity.h"

#include <utility>

namespace switchyard::parallel {

Activity::Activity(PublishedWhereabouts& shown) : shown_(shown), since_(now_ns()) {
  publish(shown_, whereabouts_);
}

void Activity::begin_step(int64_t step) {
  const std::lock_guard lock(mutex_);
  whereabouts_.step = step;
}

void Activity::begin(Phase phase, int64_t micro_batch) {
  const std::lock_guard lock(mutex_);
  count_time();
  owner_ = std::this_thread::get_id();
  whereabouts_ = {phase, whereabouts_.step, static_cast<int32_t>(micro_batch), -1};
  publish(shown_, whereabouts_);
}

void Activity::enter_layer(int64_t layer) {
  const std::lock_guard lock(mutex_);
  whereabouts_.layer = static_cast<int32_t>(layer);
  publish(shown_, whereabouts_);
}

void Activity::add_wait(double seconds) {
  const std::lock_guard lock(mutex_);
  if (std::this_thread::get_id() != owner_) return;
  PhaseSeconds& times = times_[static_cast<size_t>(whereabouts_.phase)];
  times.wait += seconds;
  times.work -= seconds;  // count_time() adds the whole
}

PhaseTimes Activity::take_times() {
  const std::lock_guard lock(mutex_);
  count_time();
  return std::exchange(times_, {});
}

void Activity::count_time() {
  const int64_t now = now_ns();
  times_[static_cast<size_t>(whereabouts_.phase)].work += static_cast<double>(now - since_) * 1e-9;
  since_ = now;
}

}  // namespace switchyard::parallel
