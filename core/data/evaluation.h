#pragma once
// Batches for evaluation: a source once, in order.

#include <cstdint>
#include <memory>

#include "core/data/batch_maker.h"

namespace switchyard {

struct EvalOptions {
  int64_t length = 0;           // tokens of the source per row
  int64_t max_sequences = 0;    // stop after so many rows; 0 is all
  int64_t batch_sequences = 1;  // rows per rank and batch
  int64_t rank = 0;             // among the data ranks
  int64_t num_ranks = 1;
  std::shared_ptr<const BatchMaker> maker = {};  // null: next_token_batches
};

// Row j is tokens [j*length, (j+1)*length) and their targets; the last may be partly padding. Every
// rank gets the same number of batches of the same shape: rows that do not exist are padding, so
// that ranks stay in lockstep, and weighting by targets gives the same mean for any rank count.
class EvalLoader {
 public:
  // DataError if the source has fewer than two tokens.
  EvalLoader(std::shared_ptr<const TokenSource> source, const EvalOptions& options);

  int64_t num_sequences() const { return num_sequences_; }  // over all ranks, without padding
  int64_t num_batches() const;                              // per rank
  // Batch `i` of this rank; `first_sequence` counts rows of the source. Thread-safe.
  Batch batch(int64_t i) const;

 private:
  std::shared_ptr<const TokenSource> source_;
  EvalOptions options_;
  int64_t num_sequences_;
};

}  // namespace switchyard
