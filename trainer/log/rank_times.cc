#include "trainer/log/rank_times.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "core/base/process.h"

namespace switchyard::trainer {
namespace {

using parallel::Phase;

// Evaluating and saving fall to few ranks by design.
constexpr Phase kStepPhases[] = {Phase::kForward, Phase::kBackward, Phase::kReduction,
                                 Phase::kUpdate};

}  // namespace

RankTimes::RankTimes(const config::Log& log, parallel::Communicator& world)
    : log_(log), world_(world), hosts_(world.all_gather_text(host_name(), "hosts")) {}

std::vector<std::string> RankTimes::count_step() {
  const parallel::PhaseTimes step = world_.activity().take_times();
  ++steps_;
  for (size_t phase = 0; phase < step.size(); ++phase) {
    times_[phase].work += step[phase].work;
    times_[phase].wait += step[phase].wait;
  }
  for (const Phase phase : kStepPhases) work_ += step[static_cast<size_t>(phase)].work;
  if (++steps_of_work_ < log_.straggler_steps() || log_.straggler_factor() <= 0) return {};
  const double own = work_ / static_cast<double>(steps_of_work_);
  std::vector<double> work(world_.size());
  world_.all_gather(&own, work.data(), sizeof own, "work of each rank");
  work_ = 0;
  steps_of_work_ = 0;
  return describe_stragglers(work, log_, hosts_);
}

std::vector<RankTime> RankTimes::per_step() {
  const parallel::PhaseTimes own = std::exchange(times_, {});
  std::vector<parallel::PhaseTimes> all(world_.size());
  world_.all_gather(&own, all.data(), sizeof own, "times of each rank");
  const auto steps = static_cast<double>(std::max<int64_t>(1, std::exchange(steps_, 0)));
  std::vector<RankTime> result;
  for (const Phase phase : kStepPhases) {
    RankTime work{fmt::format("{}/work", name_of(phase)), {}};
    RankTime wait{fmt::format("{}/wait", name_of(phase)), {}};
    for (const parallel::PhaseTimes& times : all) {
      const auto& [own_seconds, waited] = times[static_cast<size_t>(phase)];
      work.seconds.push_back(own_seconds / steps);
      wait.seconds.push_back(waited / steps);
    }
    result.push_back(std::move(work));
    result.push_back(std::move(wait));
  }
  return result;
}

std::vector<std::string> describe_stragglers(const std::vector<double>& work,
                                             const config::Log& log,
                                             const std::vector<std::string>& hosts) {
  std::vector<double> sorted = work;
  std::ranges::sort(sorted);
  const double median = sorted[(sorted.size() - 1) / 2];
  std::vector<std::string> lines;
  for (size_t rank = 0; rank < work.size(); ++rank) {
    if (work[rank] <= log.straggler_factor() * median) continue;
    lines.push_back(fmt::format(
        "straggler: rank {} (host {}) has worked {:.3f} s a step over the last {}, {:.1f} times as "
        "long as the median rank",
        rank, hosts[rank], work[rank], log.straggler_steps(), work[rank] / median));
  }
  return lines;
}

}  // namespace switchyard::trainer
