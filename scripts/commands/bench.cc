// switchyard bench

#include <fmt/format.h>

#include "scripts/commands/job.h"
#include "scripts/commands/output.h"
#include "trainer/bench_step.h"

namespace switchyard::commands {

ExitCode bench_step(const BenchOptions& options) {
  constexpr double kTimeoutSeconds = 600;
  return run_job(kTimeoutSeconds, [&](parallel::World& world) {
    config::RunConfig config = load_for_all(*world.communicator, options.config);
    start_runtime(world, {}, config);
    const auto bench = trainer::bench_step(config, *world.communicator, options.steps);
    if (world.communicator->rank() == 0) print(trainer::render(bench, options.json));
    return ExitCode::kDone;
  });
}

}  // namespace switchyard::commands
