#include "parallel/world.h"

#include <cstdlib>
#include <string>

#include "core/base/errors.h"
#include "parallel/single.h"

namespace switchyard::parallel {
namespace {

// Ranks according to the launcher; 0 when it does not say.
int launcher_size() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  return 0;
}

}  // namespace

bool launched_by_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return launcher_size() > 1;
}

World start_world(double timeout_seconds) {
  World world;
  if (!launched_by_mpi()) {
    world.communicator = make_single();
    return world;
  }
  world.session = std::make_unique<MpiSession>();
  const int expected = launcher_size();
  const int actual = world.session->size();
  if (expected != 0 && expected != actual) {
    world.session.reset();  // in order: left to the exception, it would abort the job
    throw CommError(
        fmt::format("start: the launcher started {} ranks, but MPI sees {}; launch with the mpirun "
                    "of the MPI that this program is linked with (srun: --mpi=pmix)",
                    expected, actual));
  }
  world.local_size = world.session->local_size();
  world.communicator = world.session->make_world({.timeout_seconds = timeout_seconds});
  return world;
}

}  // namespace switchyard::parallel
