#pragma once
// Faults on order, for drills: `train --inject KIND@STEP:RANK` makes one rank fail at one step, so
// that what the others and the next start make of it can be tested. Without the option nothing
// here does anything.

#include <cstdint>
#include <string>
#include <vector>

#include "core/io/file_system.h"

namespace switchyard::trainer {

// kDie: SIGKILL; kSegfault: SIGSEGV; kHang: waits for ever; kThrow: an exception that no one
// expects; kNan: the rank's loss and gradients are NaN; kDiskFull: writing fails for want of space;
// kShortWrite: the disk loses half of each tensor file and reports no error.
enum class FaultKind { kDie, kSegfault, kHang, kThrow, kNan, kDiskFull, kShortWrite };

struct Fault {
  FaultKind kind;
  int64_t step;  // counted from 1: in the computation of this step, or in its save
  int rank;
};

// "die@7:1" is rank 1 at step 7; kinds are die, segfault, hang, throw, nan, disk_full, short_write.
// ConfigError for anything else, and for a rank that a job of `num_ranks` does not have.
std::vector<Fault> parse_faults(const std::vector<std::string>& texts, int num_ranks);

// The faults of one rank.
class FaultInjector {
 public:
  FaultInjector() = default;
  FaultInjector(const std::vector<Fault>& faults, int rank);

  // Dies, hangs or throws if a fault of `step` says so.
  void begin_step(int64_t step) const;
  // What the loss of `step` is multiplied by: 1 or NaN.
  double loss_factor(int64_t step) const;
  // For the file system that `step` is saved with; empty without a fault.
  FileStepHook during_save(int64_t step) const;

 private:
  bool has(FaultKind kind, int64_t step) const;

  std::vector<Fault> faults_;
};

}  // namespace switchyard::trainer
