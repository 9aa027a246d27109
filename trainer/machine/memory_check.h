#pragma once
// A run that cannot fit into memory is refused before it allocates anything: the kernel would kill
// it later, without a word.

#include "core/config/run_config.pb.h"
#include "parallel/communicator.h"

namespace switchyard::trainer {

// **Collective.** Compares what the `local_ranks` ranks of each machine need together with what is
// available there. ConfigError on all ranks, with the plan and what to lower, if some machine has
// too little; only a warning with runtime.check_memory: false.
void check_memory(const config::RunConfig& config, parallel::Communicator& world, int local_ranks);

}  // namespace switchyard::trainer
