// switchyard bench

#include <fmt/format.h>

#include "core/base/errors.h"
#include "scripts/commands/job.h"
#include "scripts/commands/output.h"
#include "trainer/bench_exchange.h"
#include "trainer/bench_step.h"

namespace switchyard::commands {
namespace {

constexpr double kTimeoutSeconds = 600;

}  // namespace

ExitCode bench_step(const BenchOptions& options) {
  return run_job(kTimeoutSeconds, [&](parallel::World& world) {
    config::RunConfig config = load_for_all(*world.communicator, options.config);
    start_runtime(world, {}, config);
    make_world_anew(config.runtime(), world);
    const auto bench = trainer::bench_step(config, *world.communicator, options.steps);
    if (world.communicator->rank() == 0) print(trainer::render(bench, options.json));
    return ExitCode::kDone;
  });
}

ExitCode bench_exchange(const BenchExchangeOptions& options) {
  return run_job(kTimeoutSeconds, [&](parallel::World& world) {
    if (world.communicator->size() < 2)
      throw ConfigError(
          "bench exchange measures what ranks send each other: start it with `scripts/launch -n "
          "2`, "
          "or more");
    const auto bench = trainer::bench_exchange(*world.communicator, options.rounds);
    if (world.communicator->rank() == 0) print(trainer::render(bench, options.json));
    return ExitCode::kDone;
  });
}

}  // namespace switchyard::commands
