#pragma once
// Training batches of one rank, read ahead by a thread.

#include <cstdint>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include "core/data/batch_maker.h"
#include "core/data/bounded_queue.h"
#include "core/data/sampler.h"

namespace switchyard {

struct LoaderOptions {
  int64_t global_sequences = 1;                  // G, per step, over all data ranks
  int64_t accumulation = 1;                      // A, micro-batches per step
  int64_t rank = 0;                              // among the data ranks
  int64_t num_ranks = 1;                         // R
  int64_t prefetch = 2;                          // steps read ahead
  std::shared_ptr<const BatchMaker> maker = {};  // null: next_token_batches
};

// Micro-batch m of step s holds the global sequences s*G + m*G/A + rank*G/(A*R) and the G/(A*R) - 1
// after it: every R gives the same global sequences in the same micro-batches.
class BatchLoader {
 public:
  // The blend's samples are the maker's. ConfigError unless A*R divides G; DataError if the blend
  // has fewer than G samples, or the cursor belongs to other data.
  BatchLoader(Blend blend, const LoaderOptions& options, Cursor cursor);
  // Does not wait for steps that are not read yet.
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  // This rank's micro-batches of the next step. Rethrows what reading it threw, now and ever after.
  std::vector<Batch> next_step();
  // The position after the step that next_step() gave last.
  const Cursor& cursor() const { return cursor_; }

 private:
  struct Step {
    std::vector<Batch> batches;
    Cursor after;
    std::exception_ptr error;
  };
  Step read_step(Cursor cursor) const;
  void read_ahead(Cursor cursor);

  Blend blend_;
  LoaderOptions options_;
  Cursor cursor_;
  std::exception_ptr error_;
  BoundedQueue<Step> steps_;
  std::jthread reader_;  // last: it ends before the rest goes
};

}  // namespace switchyard
