#pragma once
// How many threads this process may use, and starting them.

#include <string>
#include <system_error>
#include <thread>
#include <utility>
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

// A machine may be out of threads, and the bare error, "Resource temporarily unavailable", says
// neither what was wanted nor which limit to raise.

// Throws ConfigError: what could not be started, why, and the limits that this process has.
[[noreturn]] void throw_no_thread(const std::string& what, const std::error_code& cause);

// `what` is for the message: "the thread that reads data".
template <typename Work>
std::jthread start_thread(const std::string& what, Work&& work) {
  try {
    return std::jthread(std::forward<Work>(work));
  } catch (const std::system_error& error) {
    throw_no_thread(what, error.code());
  }
}

// Starts so many threads at once and ends them again. OpenMP ends the process where it cannot start
// its own, so this asks first. ConfigError.
void try_threads(int count);

}  // namespace switchyard
