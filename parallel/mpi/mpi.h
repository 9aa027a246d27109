#pragma once
// Ranks as MPI processes; buffers in host memory. MPI moves bytes and nothing else: no reductions,
// so that results do not depend on the MPI library. Every operation is started non-blocking and
// polled against a deadline.

#include <climits>
#include <cstdint>
#include <memory>

#include "parallel/communicator.h"

namespace switchyard::parallel {

struct MpiOptions {
  double timeout_seconds = 600;  // the deadline of every operation
  bool is_checked = false;       // members compare what they are about to do; see call_check.h
  int64_t max_count = INT_MAX;   // MPI's counts are int; lower in tests
};

// MPI from initialisation to finalisation: one per process, made and destroyed by main. It must
// outlive its communicators. When it is destroyed by an exception that leaves main's scope, it
// aborts the job instead of waiting for peers in MPI_Finalize.
class MpiSession {
 public:
  // **Collective**. Throws CommError when MPI does not offer MPI_THREAD_MULTIPLE.
  MpiSession();
  ~MpiSession();

  int rank() const;
  int size() const;
  // The ranks of this machine (those that share memory).
  int local_size() const;

  // **Collective**. The group of all ranks.
  std::unique_ptr<Communicator> make_world(const MpiOptions& options) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace switchyard::parallel
