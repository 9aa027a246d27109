#pragma once
// What a rank is at in training, for its neighbours and the flight recorder, and where its time
// goes: into work of its own, or into waiting for others.

#include <array>
#include <cstdint>
#include <mutex>
#include <thread>

#include "parallel/board.h"

namespace switchyard::parallel {

// Seconds of one phase. Work is what is not waiting: moving bytes counts as waiting.
struct PhaseSeconds {
  double work = 0, wait = 0;
};
using PhaseTimes = std::array<PhaseSeconds, kNumPhases>;  // by phase

// One per rank. Thread-safe, since groups may be used by different threads.
class Activity {
 public:
  // `shown`, where neighbours look, must outlive this.
  explicit Activity(PublishedWhereabouts& shown);

  // The step, counted from 1, that the phases from here on belong to.
  void begin_step(int64_t step);
  // The rank goes over to another phase, or to another micro-batch in it.
  void begin(Phase phase, int64_t micro_batch = -1);
  // From here on it is this layer's turn, in the phase that began last.
  void enter_layer(int64_t layer);
  // So much of the phase went into waiting. Of other threads than the one that began the phase it
  // does not count: what they wait for, such as a save, holds nobody up.
  void add_wait(double seconds);
  // The times since this was called last, or since the beginning.
  PhaseTimes take_times();

 private:
  void count_time();

  PublishedWhereabouts& shown_;
  std::mutex mutex_;
  std::thread::id owner_ = std::this_thread::get_id();
  Whereabouts whereabouts_;
  int64_t since_;  // nanoseconds of the steady clock: what was before is in times_
  PhaseTimes times_{};
};

}  // namespace switchyard::parallel
