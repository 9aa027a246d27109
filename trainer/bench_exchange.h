#pragma once
// `switchyard bench exchange`: how close the communicator's collectives come to MPI's own.

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace switchyard::trainer {

// One collective at one size, by MPI called directly and by the communicator.
struct ExchangeTiming {
  std::string operation;  // "all-to-all", "all-reduce"
  int64_t bytes = 0;      // that a rank contributes
  // Seconds of one call: the median over rounds, as the slowest rank sees it.
  double direct = 0, ours = 0;
  // direct over ours, round by round: the median and the quarters of the rounds below and above.
  double ratio = 0, lower = 0, upper = 0;
};

struct ExchangeBench {
  int ranks = 0, rounds = 0;
  std::vector<ExchangeTiming> timings;
};

// **Collective** over `world`, all ranks of an MPI job. Rounds of both are run in turn, so that
// what else the machine does meets both alike.
ExchangeBench bench_exchange(parallel::Communicator& world, int rounds);

std::string render(const ExchangeBench& bench, bool json);

}  // namespace switchyard::trainer
