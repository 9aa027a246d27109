// switchyard train

#include <cstdlib>
#include <filesystem>

#include "core/base/log.h"
#include "scripts/commands/job.h"
#include "trainer/machine/memory_check.h"
#include "trainer/products.h"
#include "trainer/trainer.h"

namespace switchyard::commands {
namespace {

trainer::Resume parse_resume(const std::string& text) {
  if (text == "auto") return {trainer::Resume::kAuto, {}};
  if (text == "never") return {trainer::Resume::kNever, {}};
  return {trainer::Resume::kPath, find_checkpoint(text)};
}

// scripts/launch --max-restarts says how often it has started this job again.
struct Restarts {
  bool are_allowed = false;
  int so_far = 0;
};

Restarts restarts_of_job() {
  const char* text = std::getenv("SWITCHYARD_RESTARTS");
  return text == nullptr ? Restarts{} : Restarts{true, std::atoi(text)};
}

// A restart goes on from the run's newest checkpoint, and no fault is injected twice.
TrainOptions after_restarts(TrainOptions options) {
  const Restarts restarts = restarts_of_job();
  if (restarts.are_allowed && options.resume != "auto" && options.resume != "never")
    throw ConfigError(fmt::format(
        "--resume {} with scripts/launch --max-restarts: each restart would go back to that "
        "checkpoint; begin without --max-restarts, and add it when the run has saved a step",
        options.resume));
  if (restarts.so_far > 0) {
    options.resume = "auto";
    options.faults.clear();
  }
  return options;
}

// The named checkpoint, or a run's newest. What is not there stays as it is: a run that goes on
// does not read it.
std::string weights_at(const std::string& path) {
  std::error_code unknown;
  return std::filesystem::exists(path, unknown) ? find_checkpoint(path) : path;
}

}  // namespace

ExitCode train(const TrainOptions& asked) {
  // The deadline is in the config, which only arrives by a collective: that one gets the default.
  constexpr double kTimeoutSeconds = 600;
  return run_job(kTimeoutSeconds, [&](parallel::World& world) {
    const TrainOptions options = after_restarts(asked);
    const int rank = world.communicator->rank();
    const trainer::FaultInjector faults(
        trainer::parse_faults(options.faults, world.communicator->size()), rank);
    ConfigOptions source = options.config;
    if (!options.init_from.empty())
      source.overrides.push_back("init_from=" + weights_at(options.init_from));
    config::RunConfig config = load_for_all(*world.communicator, source);
    const trainer::Resume resume = parse_resume(options.resume);
    if (!options.init_from.empty() && resume.kind == trainer::Resume::kPath)
      throw ConfigError(
          "--init-from starts a new run and --resume PATH goes on with an old one; choose one");
    start_runtime(world, rank == 0 ? trainer::products_of_run(config, resume) : config::Runtime(),
                  config);
    make_world_anew(config.runtime(), world);
    trainer::check_memory(config, *world.communicator, world.local_size);
    trainer::Trainer trainer(config, *world.communicator, resume, faults);
    return trainer.run();
  });
}

}  // namespace switchyard::commands
