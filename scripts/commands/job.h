#pragma once
// What every command on several ranks shares: start, one config for all, an end that leaves nobody
// waiting.

#include <functional>

#include "core/config/run_config.pb.h"
#include "parallel/world.h"
#include "scripts/commands/commands.h"

namespace switchyard::commands {

// Runs `body` as a rank of the job. An error on any rank, or on all, is printed with its rank and
// ends the whole job at once with the error's exit code.
ExitCode run_job(double timeout_seconds, const std::function<ExitCode(parallel::World&)>& body);

// **Collective.** Rank 0 reads the config, all ranks get the same bytes. ConfigError on all ranks
// alike.
config::RunConfig load_for_all(parallel::Communicator& world, const ConfigOptions& options);

// The same for a config that `load` makes.
config::RunConfig load_for_all(parallel::Communicator& world,
                               const std::function<config::RunConfig()>& load);

// Whether the argument of `inspect` and of --router is a file; else it is the name of a model.
bool names_file(const std::string& path);

// A run's config, or the named model in a run of its own. ranks 0: not known.
config::RunConfig load_run_or_model(const ConfigOptions& options, int ranks);

// **Collective.** Threads, allocator and matrix products of this process; the config then says
// which products. kept: what rank 0's run goes on with (trainer/products.h).
void start_runtime(const parallel::World& world, const config::Runtime& kept,
                   config::RunConfig& config);

// **Collective.** From here on all ranks wait and check as the config says, which came by their
// first collectives. The communicator before is gone.
void make_world_anew(const config::Runtime& runtime, parallel::World& world);

// The newest checkpoint of a run's folder, or the folder itself if it is a checkpoint.
// CheckpointError if neither.
std::string find_checkpoint(const std::string& path);

}  // namespace switchyard::commands
