#pragma once
// How many threads this process may use.

#include <string>
#include <vector>

namespace switchyard {

// The cores that a process may run on: '1' or '0' for each of the machine's, by number.
using CoreMask = std::string;
CoreMask own_core_mask();

// Cores this process may run on: the affinity mask, cut down by the cgroup's CPU quota. At least 1.
int available_cores();

// Cores' worth of time that the cgroup allows this process and its neighbours; infinity without a
// quota.
double core_quota();

// Threads for process `own` of those on one machine, whose masks these are: the cores that it has
// to itself, and of each core that several may use its part; of `quota` its part too. At least 1.
// More threads than cores is far slower than too few: idle OpenMP threads spin.
int fair_threads(const std::vector<CoreMask>& masks, size_t own, double quota);

}  // namespace switchyard
