#pragma once
// How many threads this process may use.

namespace switchyard {

// Cores this process may run on: the affinity mask, cut down by the cgroup's CPU quota. At least 1.
int available_cores();

// Threads for one of `local_ranks` processes on this machine: cores shared evenly, at least 1. More
// threads than cores is far slower than too few: idle OpenMP threads spin.
int threads_per_rank(int local_ranks);

}  // namespace switchyard
