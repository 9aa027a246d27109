#pragma once
// Where each rank's time goes, by phase of the step: into work of its own, or into waiting for
// others. And whether one of them works for much longer than the rest.

#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "parallel/activity.h"
#include "parallel/communicator.h"
#include "trainer/log/step_record.h"

namespace switchyard::trainer {

class RankTimes {
 public:
  // **Collective** over `world`, all ranks of the job, which must outlive it.
  RankTimes(const config::Log& log, parallel::Communicator& world);

  // Takes the times of the step that ends here. **Collective** after every log.straggler_steps
  // steps: then it returns a line for each rank that has worked for more than log.straggler_factor
  // times as long as the median rank.
  std::vector<std::string> count_step();

  // **Collective.** The phases of a step on all ranks, seconds per step since this was called last.
  std::vector<RankTime> per_step();

 private:
  config::Log log_;
  parallel::Communicator& world_;
  std::vector<std::string> hosts_;  // by rank
  parallel::PhaseTimes times_{};    // since per_step()
  int64_t steps_ = 0;
  double work_ = 0;  // seconds, since stragglers were looked for
  int64_t steps_of_work_ = 0;
};

// A line for each straggler. work: seconds per step by rank; the median of an even number is the
// lower one, so that of two ranks one can be the slower.
std::vector<std::string> describe_stragglers(const std::vector<double>& work,
                                             const config::Log& log,
                                             const std::vector<std::string>& hosts);

}  // namespace switchyard::trainer
