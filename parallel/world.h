#pragma once
// How a process finds out which rank it is: from MPI when a launcher started it, otherwise it is
// alone and does not touch MPI (whose initialisation alone takes a third of a second).

#include <memory>

#include "parallel/communicator.h"
#include "parallel/mpi/mpi.h"

namespace switchyard::parallel {

struct World {
  std::unique_ptr<MpiSession> session;  // null without a launcher; outlives all communicators
  std::unique_ptr<Communicator> communicator;
  int local_size = 1;  // ranks of this machine
};

// Whether the environment shows a launcher: mpirun of Open MPI or MPICH, or Slurm's srun.
bool launched_by_mpi();

// **Collective**. Throws CommError when the launcher's number of ranks is not MPI's, as happens
// when the launcher belongs to another MPI.
World start_world(double timeout_seconds);

// **Collective** over all ranks of the job. Threads for this rank: its part of the cores that the
// ranks of its machine may use together (core/base/threads.h).
int fair_threads(Communicator& world);

}  // namespace switchyard::parallel
