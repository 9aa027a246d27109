#pragma once
// What token exchange promises, whatever the backend. Each function is one behaviour, run by every
// rank of `world`, with gtest's EXPECT_ macros. exchange_test runs them over threads,
// exchange_dist_test over MPI.

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace switchyard::parallel::exchange_suite {

struct Behaviour {
  std::string name;
  void (*check)(Communicator& world);
};

const std::vector<Behaviour>& behaviours();

}  // namespace switchyard::parallel::exchange_suite
