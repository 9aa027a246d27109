#pragma once
// Training batches of one rank, read ahead by a thread.

#include <cstdint>
#include <exception>
#include <functional>
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
  int64_t first_step = 0;                        // number of the step at the first cursor
  // Micro-batches of a step, which need not be A but have the same size, G/A, from the step's
  // number and the global sequences drawn before it; called on the reader's thread. Null: always A.
  std::function<int64_t(int64_t step, int64_t sequences)> micro_batches = {};
  int64_t largest_step = 0;  // sequences that no step exceeds; 0: G
};

// Micro-batch m of a step before which n sequences were drawn holds the global sequences n + m*G/A
// + rank*G/(A*R) and the G/(A*R) - 1 after it: every R gives the same global sequences in the same
// micro-batches.
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
  Step read_step(int64_t step, Cursor cursor) const;
  void read_ahead(Cursor cursor);

  Blend blend_;
  LoaderOptions options_;
  Cursor cursor_;
  std::exception_ptr error_;
  BoundedQueue<Step> steps_;
  std::jthread reader_;  // last: it ends before the rest goes
};

}  // namespace switchyard
