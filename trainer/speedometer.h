#pragma once
// How fast the run goes, and how much of the machine it uses.

#include <chrono>
#include <cstdint>

#include "core/config/run_config.pb.h"
#include "parallel/mesh.h"
#include "trainer/step_record.h"

namespace switchyard::trainer {

// Largest resident set of this process so far.
double peak_memory_bytes();

class Speedometer {
 public:
  // **Collective** over the world: see peak_rate().
  Speedometer(const config::RunConfig& config, const parallel::Mesh& mesh);

  // The clock and counters start anew: call when a log interval begins, so that evaluation and
  // saving do not count.
  void restart();
  void count_step() { ++steps_; }
  // Fills the machine-dependent fields of a record from what happened since restart().
  void fill(StepRecord& record) const;
  // At the speed since restart().
  double eta_seconds(int64_t steps_left) const;

 private:
  double seconds_per_step() const;

  const parallel::Mesh* mesh_;
  double tokens_per_step_, flops_per_token_, peak_;
  std::chrono::steady_clock::time_point start_;
  double exchange_seconds_at_start_ = 0;
  int64_t steps_ = 0;
};

}  // namespace switchyard::trainer
