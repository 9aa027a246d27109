// switchyard selfcheck

#include <fmt/format.h>

#include "core/base/log.h"
#include "scripts/commands/job.h"
#include "scripts/commands/output.h"
#include "trainer/log/progress.h"
#include "trainer/selfcheck/selfcheck.h"
#include "trainer/selfcheck/shrink.h"

namespace switchyard::commands {
namespace {

int ranks_of(const SelfcheckCommand& options, int job) {
  if (job == 1) return options.ranks > 0 ? options.ranks : 4;
  if (options.ranks > 0 && options.ranks != job)
    throw ConfigError(
        fmt::format("selfcheck: -n {} in a job of {} ranks; leave it out to check on those",
                    options.ranks, job));
  return job;
}

// The mesh that the config asks for does not count.
config::RunConfig load(const SelfcheckCommand& options, int ranks) {
  ConfigOptions source = options.config;
  source.overrides.push_back("runtime.compute=" + options.compute);
  config::RunConfig config = load_run_or_model(source, /*ranks=*/0);
  config.mutable_mesh()->Clear();
  return options.shrink ? trainer::shrunk(config, ranks) : config;
}

// On a terminal a bar, else a line as each run begins.
class Display {
 public:
  explicit Display(bool is_visible)
      : prints_lines_(is_visible && !trainer::wants_progress_bar()),
        bar_(is_visible && trainer::wants_progress_bar()) {}

  void show(const std::string& run, int64_t done, int64_t total) {
    bar_.update(done, total, run);
    if (prints_lines_ && run != run_) info("selfcheck: {}, {} of {} steps done", run, done, total);
    run_ = run;
  }
  void clear() { bar_.clear(); }

 private:
  bool prints_lines_;
  trainer::ProgressBar bar_;
  std::string run_;
};

}  // namespace

ExitCode selfcheck(const SelfcheckCommand& options) {
  constexpr double kTimeoutSeconds = 600;
  return run_job(kTimeoutSeconds, [&](parallel::World& world) {
    parallel::Communicator& job = *world.communicator;
    const int ranks = ranks_of(options, job.size());
    config::RunConfig config = load_for_all(job, [&] { return load(options, ranks); });
    start_runtime(world, {}, config);
    const bool prints = job.rank() == 0;
    if (prints && !options.json) info("selfcheck: {}", trainer::describe_sizes(config));
    Display display(prints && !options.json);
    const auto report =
        trainer::selfcheck(config,
                           {.ranks = ranks,
                            .steps = options.steps,
                            .inject = options.inject,
                            .local_ranks = world.local_size,
                            .quick = options.quick},
                           job, [&](const std::string& run, int64_t done, int64_t total) {
                             display.show(run, done, total);
                           });
    display.clear();
    if (prints) print(trainer::render(report, options.json));
    return report.passed() ? ExitCode::kDone : ExitCode::kNumerics;
  });
}

}  // namespace switchyard::commands
