#pragma once
// How fast the run goes, and how much of the machine it uses.

#include <chrono>
#include <cstdint>

#include "core/config/run_config.pb.h"
#include "parallel/mesh.h"
#include "trainer/log/step_record.h"

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
  // Says how many tokens the run has before it, for eta_seconds().
  void expect(int64_t tokens) { tokens_left_ = tokens; }
  void count_step(int64_t tokens) {
    ++steps_;
    tokens_ += tokens;
    tokens_left_ -= tokens;
  }
  // Fills the machine-dependent fields of a record from what happened since restart().
  void fill(StepRecord& record) const;
  // Seconds that the tokens before the run take at the speed since restart(). Tokens are counted
  // and not steps, as steps may grow.
  double eta_seconds() const;

 private:
  const parallel::Mesh* mesh_;
  double flops_per_token_, peak_;
  std::chrono::steady_clock::time_point start_;
  double exchange_seconds_at_start_ = 0;
  int64_t steps_ = 0, tokens_ = 0, tokens_left_ = 0;
};

}  // namespace switchyard::trainer
