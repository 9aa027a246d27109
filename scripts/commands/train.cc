// switchyard train

#include "core/base/log.h"
#include "scripts/commands/job.h"
#include "trainer/products.h"
#include "trainer/trainer.h"

namespace switchyard::commands {
namespace {

trainer::Resume parse_resume(const std::string& text) {
  if (text == "auto") return {trainer::Resume::kAuto, {}};
  if (text == "never") return {trainer::Resume::kNever, {}};
  return {trainer::Resume::kPath, find_checkpoint(text)};
}

}  // namespace

ExitCode train(const TrainOptions& options) {
  // The deadline is in the config, which only arrives by a collective: that one gets the default.
  constexpr double kTimeoutSeconds = 600;
  return run_job(kTimeoutSeconds, [&](parallel::World& world) {
    config::RunConfig config = load_for_all(*world.communicator, options.config);
    const trainer::Resume resume = parse_resume(options.resume);
    const bool decides = world.communicator->rank() == 0;
    start_runtime(world, decides ? trainer::products_of_run(config, resume) : config::Runtime(),
                  config);
    if (world.session) {  // now that the deadline is known
      world.communicator =
          world.session->make_world({static_cast<double>(config.runtime().timeout_seconds())});
    }
    trainer::Trainer trainer(config, *world.communicator, resume);
    return trainer.run();
  });
}

}  // namespace switchyard::commands
