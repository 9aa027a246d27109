#pragma once
// The memory that this process and its neighbours can still have.

#include <cstdint>
#include <string>

namespace switchyard::trainer {

struct Memory {
  uint64_t total_bytes = 0;      // of the machine
  uint64_t available_bytes = 0;  // without swapping; at most what is left under every limit
  uint64_t limit_bytes = 0;      // the least limit of this process's control groups; 0: none
};

// From /proc/meminfo and the control groups of this process, version 1 or 2, and of those above it.
// Files in the cache count as available, as the kernel gives them up first. `root` stands before
// the paths, for tests. Where nothing can be read all is 0.
Memory look_at_memory(const std::string& root = "");

}  // namespace switchyard::trainer
