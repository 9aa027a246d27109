#pragma once
// How samples of a source become rows of a batch: one kind for each objective.

#include <cstdint>
#include <memory>

#include "core/data/batch.h"
#include "core/data/table.h"

namespace switchyard {

// How much of a source one row takes, and what a row has in a batch.
struct RowSizes {
  int64_t sample_tokens = 0;
  int64_t length = 0;
  int64_t source_length = 0;  // of an encoder-decoder
  int64_t num_features = 0;   // of a table
};

// Const members are thread-safe.
class BatchMaker {
 public:
  explicit BatchMaker(const RowSizes& sizes) : sizes_(sizes) {}
  virtual ~BatchMaker() = default;

  int64_t sample_tokens() const { return sizes_.sample_tokens; }
  // Rows that are all padding.
  Batch make(int64_t first_sequence, int64_t num_sequences) const;
  // Fills a row from the source's tokens from `first` on. What is random in it depends on
  // `sequence`, the row's number in the run or the evaluation, and on nothing else.
  virtual void fill(Batch& batch, int64_t row, const TokenSource& source, int64_t first,
                    int64_t sequence) const = 0;

 private:
  RowSizes sizes_;
};

// Language modelling: `length` tokens and those that follow them. across_documents: a row counts as
// one document, whatever it holds.
std::shared_ptr<const BatchMaker> next_token_batches(int64_t length, bool across_documents = false);

// Cases of a table, one per row and of length 1: features, and the class as target.
std::shared_ptr<const BatchMaker> case_batches(std::shared_ptr<const Table> table);

}  // namespace switchyard
