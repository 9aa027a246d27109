#pragma once
// A group of ranks that can exchange memory. One interface, one file per backend: single (size 1),
// thread (ranks are threads of one process), mpi. Backends whose buffers lie in host memory move
// bytes and inherit their reductions (parallel/host_reductions.h).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"

namespace switchyard::parallel {

class Activity;

enum class ReduceOp { kSum, kMax, kMin };

// A collective under way. The buffers given to it belong to it until wait() has returned. It must
// not outlive its communicator. Dropped without wait(), as an exception goes by, it makes the
// communicator useless.
class Work {
 public:
  virtual ~Work() = default;
  // Makes the result usable by whoever called: by this thread if the buffers lie in host memory; by
  // what the current stream does next if they lie on a device, for which the host need not stop.
  // Throws CommError naming operation, group, sequence number, sizes and the missing ranks when the
  // group's deadline passes or a peer has failed. Call once.
  virtual void wait() = 0;
  // Drives progress without blocking; true when wait() will not block. MPI makes none by itself
  // between calls. A failure is thrown here or by wait().
  virtual bool test() = 0;
};

// Rows for all_to_all_v: how many to and from each rank, in rows of row_bytes. Rows to (from) rank
// p are contiguous and in rank order in the buffer.
struct ExchangeCounts {
  std::vector<int64_t> send;     // [size]
  std::vector<int64_t> receive;  // [size]
  int64_t row_bytes = 0;

  int64_t bytes_out() const;
  int64_t bytes_in() const;
};

// For backends: null pointers are legal for zero bytes, as is a copy to its own place.
void copy_bytes(void* to, const void* from, int64_t bytes);

// What a group has cost so far.
struct Traffic {
  double exchange_seconds = 0;  // of token exchange, waiting for slower peers included
  int64_t bytes_sent = 0;       // by this rank to others
};

// All members start the same operations in the same order (**collective**). Several may be under
// way at once. They complete in the order in which they were started: wait() drives the earlier
// ones too, so that members may wait for the works of one communicator in different orders. Works
// of several communicators are waited for in an order that their members share, since an operation
// may need its members' waits to get on. Zero counts are legal everywhere. Not thread-safe: one
// thread at a time per communicator, though not always the same one.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // "world", "expert[0]", ...: the name that messages use.
  virtual const std::string& name() const = 0;

  // New group of the ranks that pass the same color, ordered by rank here. `name` is for messages.
  virtual std::unique_ptr<Communicator> split(int color, const std::string& name) = 0;

  // From here on members do not compare their calls, whatever runtime.checked_collectives asks for:
  // for a sender and a receiver, who are at an operation at different times.
  virtual void leave_unchecked() {}

  // Throws CheckError unless there is one count for each rank each way, none of them negative.
  virtual std::unique_ptr<Work> start_all_to_all_v(const void* send, void* receive,
                                                   const ExchangeCounts& counts,
                                                   const char* what) = 0;
  // receive: size() blocks of `bytes`, in rank order. `send` may be this rank's block of them.
  virtual std::unique_ptr<Work> start_all_gather(const void* send, void* receive, int64_t bytes,
                                                 const char* what) = 0;
  // send: size() slices of `count` elements, in rank order. receive: `count` elements, this rank's
  // slice reduced over all ranks, as start_all_reduce does it; it may be that slice of `send`.
  virtual std::unique_ptr<Work> start_reduce_scatter(const void* send, void* receive, int64_t count,
                                                     DType dtype, ReduceOp op,
                                                     const char* what) = 0;
  // In place; every rank gets the same bits. Throws CheckError for an element type in which every
  // addition would round (BF16): use float32 or wider.
  virtual std::unique_ptr<Work> start_all_reduce(void* data, int64_t count, DType dtype,
                                                 ReduceOp op, const char* what) = 0;
  virtual void broadcast(void* data, int64_t bytes, int root, const char* what) = 0;
  virtual void barrier(const char* what) = 0;

  // Is for long work outside collectives, such as a save: shows what this rank is at (47 characters
  // of it) and that it gets on, so that the deadlines of those on this node who wait for it begin
  // anew.
  virtual void beat(std::string_view working_on) {}

  // What this rank is at, and since when: one for all groups of the rank.
  virtual Activity& activity() = 0;

  // Ends the whole job because of this rank's failure, so that nobody waits for it: `message`
  // reaches stderr once.
  [[noreturn]] virtual void abort(int exit_code, const std::string& message) = 0;

  Traffic& traffic() { return traffic_; }
  const Traffic& traffic() const { return traffic_; }

  // ---- Built on the above, the same for every backend ----

  void all_to_all_v(const void* send, void* receive, const ExchangeCounts& counts,
                    const char* what);
  void all_gather(const void* send, void* receive, int64_t bytes, const char* what);

  void all_reduce(void* data, int64_t count, DType dtype, ReduceOp op, const char* what);
  template <typename T>
  void all_reduce(std::span<T> data, ReduceOp op, const char* what);
  // One value, for counters and losses.
  double all_reduce(double value, ReduceOp op, const char* what);
  // Variable-length text or bytes of every rank, in rank order, on every rank.
  std::vector<std::string> all_gather_text(const std::string& text, const char* what);

 private:
  Traffic traffic_;
};

}  // namespace switchyard::parallel
