#include "core/data/batch.h"

#include <algorithm>

namespace switchyard {

Batch make_batch(int64_t first_sequence, int64_t num_sequences, int64_t length) {
  const auto size = static_cast<size_t>(num_sequences * length);
  return {.first_sequence = first_sequence,
          .num_sequences = num_sequences,
          .length = length,
          .tokens = std::vector<int32_t>(size, 0),
          .targets = std::vector<int32_t>(size, kNoTarget),
          .documents = std::vector<int32_t>(size, 0)};
}

void fill_row(Batch& batch, int64_t row, const TokenSource& source, int64_t first) {
  const auto have = static_cast<size_t>(std::min(batch.length + 1, source.num_tokens() - first));
  std::vector<int32_t> tokens(have), segments(have);
  source.read(first, tokens);
  source.segments(first, segments);
  const auto begin = static_cast<size_t>(row * batch.length);
  const auto document_of = [&](size_t i) {  // an end-of-document token counts to what follows it
    return segments[std::min(i + 1, have - 1)] - segments[std::min<size_t>(1, have - 1)];
  };
  for (size_t i = 0; i < static_cast<size_t>(batch.length); ++i) {
    batch.tokens[begin + i] = i < have ? tokens[i] : 0;
    batch.documents[begin + i] = document_of(i);
    batch.targets[begin + i] = i + 1 < have ? tokens[i + 1] : kNoTarget;
  }
}

}  // namespace switchyard
