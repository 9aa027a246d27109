#pragma once
// MPI's own collectives, called as directly as a program can: what `switchyard bench exchange`
// holds the communicator's against.

#include <cstdint>
#include <memory>

#include "parallel/communicator.h"

namespace switchyard::parallel {

// The group of all ranks. Every call is MPI's blocking one: no deadline, no record, sums in an
// order that MPI chooses. Not for training.
class DirectMpi {
 public:
  // **Collective.** Requires: MPI has been initialised (MpiSession), and is finalised later.
  DirectMpi();
  ~DirectMpi();

  // **Collective.** As Communicator::all_to_all_v(); no count of bytes may exceed INT_MAX. Throws
  // CommError with MPI's text.
  void all_to_all_v(const void* send, void* receive, const ExchangeCounts& counts) const;
  // **Collective.** Sums `count` values in place. Throws CommError with MPI's text.
  void all_reduce(float* data, int count) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace switchyard::parallel
