#pragma once
// Rows of tokens with next-token targets, the form in which data reach a model.

#include <cstdint>
#include <vector>

#include "core/data/token_source.h"

namespace switchyard {

inline constexpr int32_t kNoTarget = -1;  // no loss at this position

// The arrays are [num_sequences * length], row-major.
struct Batch {
  int64_t first_sequence = 0;  // global number of the first row
  int64_t num_sequences = 0;
  int64_t length = 0;
  std::vector<int32_t> tokens;
  // The next token; kNoTarget where there is none.
  std::vector<int32_t> targets;
  // Number of the document within its row, from 0: attention stays among equal numbers. The token
  // that ends a document is predicted by that document, and as an input opens the next one: it is
  // what a document's first token is predicted from. All 0 where attention crosses documents.
  std::vector<int32_t> documents;

  // For an encoder-decoder, whose decoder the above is: the encoder's rows, [num_sequences *
  // source_length], and how many tokens of each are not padding, [num_sequences].
  int64_t source_length = 0;
  std::vector<int32_t> source;
  std::vector<int32_t> source_counts;

  // For cases of a table: [num_sequences * num_features].
  int64_t num_features = 0;
  std::vector<float> features;
};

// All rows padding: token 0 without targets. Neither an encoder's rows nor features.
Batch make_batch(int64_t first_sequence, int64_t num_sequences, int64_t length);

// Fills a row with the tokens from `first` on. Where fewer than length + 1 are left in the source,
// the rest of the row stays padding (with the last document's number).
void fill_row(Batch& batch, int64_t row, const TokenSource& source, int64_t first);

// Fills a row of an encoder-decoder's batch. The decoder's input is the target one later, after
// `begin`. Both texts are cut where they are longer than the row.
void fill_pair(Batch& batch, int64_t row, const std::vector<int32_t>& source,
               const std::vector<int32_t>& target, int32_t begin);

}  // namespace switchyard
