#include "parallel/world.h"

#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/base/errors.h"
#include "core/base/threads.h"
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

int fair_threads(Communicator& world) {
  char host[HOST_NAME_MAX + 1] = {};
  ::gethostname(host, HOST_NAME_MAX);
  // A blank ends the host's name; none holds one.
  const std::string prefix = std::string(host) + ' ';
  const auto places = world.all_gather_text(prefix + own_core_mask(), "cores of each rank");
  std::vector<CoreMask> masks;  // of this machine
  size_t own = 0;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    if (static_cast<int>(rank) == world.rank()) own = masks.size();
    if (places[rank].starts_with(prefix)) masks.push_back(places[rank].substr(prefix.size()));
  }
  return switchyard::fair_threads(masks, own, core_quota());
}

}  // namespace switchyard::parallel
