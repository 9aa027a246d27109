#pragma once
// Reductions of buffers in host memory, in rank order: each rank receives everybody's contribution
// to its slice and adds them up in the order of ranks. A sum depends neither on timing nor on a
// library's choice of algorithm (docs/decisions/0006-rank-ordered-reductions.md).

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "parallel/board.h"
#include "parallel/communicator.h"

namespace switchyard::parallel {

struct Call;

// Bytes that change hands among the members of a group.
struct Movement {
  Operation operation;         // its `what` is valid until the movement has begun
  const void* send = nullptr;  // null in a broadcast, which has its data, on every rank,
  void* receive = nullptr;     // here
  ExchangeCounts counts = {};  // of all_to_all_v
  // In all_to_all_v: what this rank has for itself stays where it is in `send`. Its place in
  // `receive` is not written.
  bool keeps_own = false;
};

// A backend inherits from this and says how bytes are moved; the operations are made of that here.
//
// Members must begin their movements in one order. An all-reduce is several of them, and a member
// can begin the second only when the first has arrived, at a time of its own. Therefore an
// operation begins its first movement only after those started earlier have begun their last: the
// order of movements follows from the order of starts alone. Until then it waits in a queue, which
// every wait() and test() drives.
//
// A checked group first exchanges what its members are about to do, in a movement before each
// operation: none begins that is not the same on all.
class HostReductions : public Communicator {
 public:
  explicit HostReductions(bool is_checked) : is_checked_(is_checked) {}

  std::unique_ptr<Work> start_all_to_all_v(const void* send, void* receive,
                                           const ExchangeCounts& counts, const char* what) final;
  std::unique_ptr<Work> start_all_gather(const void* send, void* receive, int64_t bytes,
                                         const char* what) final;
  std::unique_ptr<Work> start_reduce_scatter(const void* send, void* receive, int64_t count,
                                             DType dtype, ReduceOp op, const char* what) final;
  std::unique_ptr<Work> start_all_reduce(void* data, int64_t count, DType dtype, ReduceOp op,
                                         const char* what) final;
  void broadcast(void* data, int64_t bytes, int root, const char* what) final;
  void barrier(const char* what) final;
  void leave_unchecked() final { is_checked_ = false; }

 protected:
  bool is_checked() const { return is_checked_; }
  // Begins a movement.
  virtual std::unique_ptr<Work> move(const Movement& movement) = 0;
  // This rank will not begin the rest of `what`: tells the peers, where the backend can.
  virtual void give_up(const std::string& what) {}

 private:
  class Job;
  class Queued;
  class Reduction;
  class ReduceScatter;
  class AllReduce;

  bool checks() const { return is_checked_ && size() > 1; }
  // Whether a new operation must wait for its turn. Throws CommError after one has been given up.
  bool must_queue() const;
  // Begins the movement and counts what it sends.
  std::unique_ptr<Work> begin_movement(const Movement& movement);
  // Begins the movement, now or in its turn.
  std::unique_ptr<Work> start(const Movement& movement);
  // call: what members of a checked group compare.
  std::unique_ptr<Work> enqueue(std::unique_ptr<Job> job, const Call& call);
  // Begins what may begin now.
  void begin_queued();
  // Gets on with `job` and with what stands before it until `job` is complete. Returns false where
  // that would block and `blocks` is false.
  bool drive(Job& job, bool blocks);

  bool is_checked_;
  std::deque<Job*> queue_;  // those with movements still to begin, in the order of their starts
  // Scratch of reductions to come: as many as were ever under way at once, each as large as needed.
  std::vector<std::vector<std::byte>> unused_;
  std::string given_up_;  // names an operation that was dropped half-way
};

// A Work that is complete from the start.
std::unique_ptr<Work> completed_work();

}  // namespace switchyard::parallel
