#include "core/base/threads.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace switchyard {

int available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  std::ifstream quota("/sys/fs/cgroup/cpu.max");  // cgroup v2: "max 100000" or "200000 100000"
  std::string limit;
  double period = 0;
  if (quota >> limit >> period && limit != "max" && period > 0) {
    cores = std::min(cores, static_cast<int>(std::stod(limit) / period + 0.5));
  }
  return std::max(1, cores);
}

int threads_per_rank(int local_ranks) {
  return std::max(1, available_cores() / std::max(1, local_ranks));
}

}  // namespace switchyard
