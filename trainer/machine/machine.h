#pragma once
// What this machine offers to a run, found by looking and by short trials. No LibTorch, no MPI: the
// launch of processes is tried in a child process, which must happen before this process starts
// MPI itself.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/machine/available_memory.h"

namespace switchyard::trainer {

// One command, run by the shell with a time limit.
struct Trial {
  int status = -1;     // exit status; 124: out of time, 127: no such program
  std::string output;  // stdout and stderr, trimmed
  double seconds = 0;
};
Trial try_command(const std::string& command, int timeout_seconds);

// Writing and syncing one file in a folder.
struct DiskTrial {
  std::string folder;
  std::string error = {};  // empty: it works
  uint64_t free_bytes = 0;
  uint64_t written_bytes = 0;
  double seconds = 0;  // until the data were on the disk
};
// Makes the folder if need be; removes the file and, if it made it, the folder.
DiskTrial try_disk(const std::string& folder);

struct Machine {
  int cores = 1;
  std::vector<std::string> cpu_flags;
  Memory memory;
  uint64_t shared_memory_bytes = 0;  // free in /dev/shm
  std::string omp_num_threads;       // the environment variable; empty: unset
  bool is_inside_job = false;        // started by mpirun or srun
  bool has_apt = false;              // apt-helper, which fetches the corpus
  bool has_nvidia_device = false;
  Trial launch;  // `mpirun -np 2 true`; not tried inside a job
  DiskTrial disk;
};

// `launcher`: "mpirun" or a path. Takes about a second.
Machine look_at_machine(const std::string& output_folder, const std::string& launcher);

// ---- Parsers of what the kernel says ----

// The words behind "flags" (x86) of the first processor in /proc/cpuinfo.
std::vector<std::string> parse_cpu_flags(std::string_view cpuinfo);

}  // namespace switchyard::trainer
