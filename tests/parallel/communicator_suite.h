#pragma once
// The conformance suite: what every backend must do. Each function is one behaviour, run by every
// rank of `world`, with gtest's EXPECT_ macros. parallel_test runs them over single and thread,
// parallel_dist_test over MPI.

#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace switchyard::parallel::suite {

struct Behaviour {
  std::string name;
  void (*check)(Communicator& world);
};

const std::vector<Behaviour>& behaviours();

}  // namespace switchyard::parallel::suite
