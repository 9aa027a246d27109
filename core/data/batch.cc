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
          .documents = std::vector<int32_t>(size, 0),
          .source = {},
          .source_counts = {},
          .features = {}};
}

void fill_pair(Batch& batch, int64_t row, const std::vector<int32_t>& source,
               const std::vector<int32_t>& target, int32_t begin) {
  const int64_t inputs = std::min(batch.source_length, static_cast<int64_t>(source.size()));
  const int64_t outputs = std::min(batch.length, static_cast<int64_t>(target.size()));
  std::copy_n(source.begin(), inputs, batch.source.begin() + row * batch.source_length);
  batch.source_counts[static_cast<size_t>(row)] = static_cast<int32_t>(inputs);
  std::copy_n(target.begin(), outputs, batch.targets.begin() + row * batch.length);
  batch.tokens[static_cast<size_t>(row * batch.length)] = begin;
  std::copy_n(target.begin(), outputs - 1, batch.tokens.begin() + row * batch.length + 1);
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
