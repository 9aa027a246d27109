#pragma once
// Ranks as threads of one process, for tests and `selfcheck`: eight ranks in milliseconds, also
// under a thread sanitizer. The last rank to arrive at an operation moves everybody's data.

#include <functional>

#include "parallel/communicator.h"

namespace switchyard::parallel {

class ThreadGroup {
 public:
  // timeout_seconds: the deadline of every operation. is_checked: ranks compare what they are about
  // to do; see call_check.h.
  explicit ThreadGroup(int size, double timeout_seconds = 60, bool is_checked = false);

  // Runs `rank_main` once per rank, each on its own thread and with its own world, and returns when
  // all have ended. The first exception to be thrown is rethrown; it also ends the others' waits
  // with a CommError that names the failed rank.
  void run(const std::function<void(Communicator& world)>& rank_main) const;

 private:
  int size_;
  double timeout_seconds_;
  bool is_checked_;
};

}  // namespace switchyard::parallel
