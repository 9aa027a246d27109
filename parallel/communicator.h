#pragma once
// A group of ranks that can exchange memory. One interface, one file per backend: single (size 1),
// thread (ranks are threads of one process), mpi. A backend moves bytes; every reduction is
// computed here, in rank order, so that a sum depends neither on timing nor on a library's choice
// of algorithm.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"

namespace switchyard::parallel {

enum class ReduceOp { kSum, kMax, kMin };

// A collective under way. Buffers given to it belong to it until wait() returns.
class Work {
 public:
  virtual ~Work() = default;
  // Blocks until the operation is complete on this rank. Throws CommError naming operation, group,
  // sequence number, sizes and the missing ranks when the group's deadline passes or a peer has
  // failed. Call once.
  virtual void wait() = 0;
  // Drives progress without blocking; true when complete. MPI makes none by itself between calls.
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

// For backends: throws CheckError unless there is one count for each of `size` ranks, none of them
// negative.
void check_counts(const ExchangeCounts& counts, int size, const char* what);
// For backends: null pointers are legal for zero bytes.
void copy_bytes(void* to, const void* from, int64_t bytes);

// What token exchange has cost on a group so far, for the log.
struct Traffic {
  double exchange_seconds = 0;  // waiting for slower peers included
};

// All members call the same operations in the same order (**collective**). Zero counts are legal
// everywhere. Not thread-safe: one thread at a time per communicator, though not always the same
// one.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  // "world", "expert[0]", ...: the name that messages use.
  virtual const std::string& name() const = 0;

  // New group of the ranks that pass the same color, ordered by rank here. `name` is for messages.
  virtual std::unique_ptr<Communicator> split(int color, const std::string& name) = 0;

  virtual std::unique_ptr<Work> start_all_to_all_v(const void* send, void* receive,
                                                   const ExchangeCounts& counts,
                                                   const char* what) = 0;
  // receive: size() blocks of `bytes`, in rank order.
  virtual std::unique_ptr<Work> start_all_gather(const void* send, void* receive, int64_t bytes,
                                                 const char* what) = 0;
  virtual void broadcast(void* data, int64_t bytes, int root, const char* what) = 0;
  virtual void barrier(const char* what) = 0;

  // For long work outside collectives, such as a save: shows what this rank is at (47 characters of
  // it) and that it gets on, so that the deadlines of those on this node who wait for it begin
  // anew.
  virtual void beat(std::string_view working_on) {}

  // Ends the whole job because of this rank's failure, so that nobody waits for it: `message`
  // reaches stderr once.
  [[noreturn]] virtual void abort(int exit_code, const std::string& message) = 0;

  Traffic& traffic() { return traffic_; }

  // ---- Built on the above, the same for every backend ----

  void all_to_all_v(const void* send, void* receive, const ExchangeCounts& counts,
                    const char* what);
  void all_gather(const void* send, void* receive, int64_t bytes, const char* what);

  // In place; every rank gets the same bits. Sums run in rank order, in the element type (use
  // float32 or wider).
  void all_reduce(void* data, int64_t count, DType dtype, ReduceOp op, const char* what);
  template <typename T>
  void all_reduce(std::span<T> data, ReduceOp op, const char* what);
  // One value, for counters and losses.
  double all_reduce(double value, ReduceOp op, const char* what);
  // Variable-length text or bytes of every rank, in rank order, on every rank.
  std::vector<std::string> all_gather_text(const std::string& text, const char* what);

 private:
  // Grows to what was needed so far and stays: nothing is allocated in the steady state.
  std::byte* scratch(int64_t bytes);
  // Every element of `data` from all ranks to all ranks, summed by everybody.
  void reduce_gathered(std::byte* data, int64_t count, DType dtype, ReduceOp op, const char* what);
  // Each rank sums one of size() equal slices, then the slices are gathered. count % size() == 0.
  void reduce_sliced(std::byte* data, int64_t count, DType dtype, ReduceOp op, const char* what);

  Traffic traffic_;
  std::vector<std::byte> scratch_;
  ExchangeCounts slices_;
};

}  // namespace switchyard::parallel
