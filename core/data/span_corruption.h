#pragma once
// The denoising objective of T5 (Raffel et al., 2020): spans of the text are replaced by sentinels
// in the input, and the target spells them out. Follows T5's code to the rounding, but for the
// decoder's input, which begins with the end token where T5 has its pad token.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/random.h"
#include "core/data/batch_maker.h"

namespace switchyard {

struct SpanCorruption {
  double density = 0.15;  // share of the tokens that is hidden
  double mean_span = 3;   // tokens
};

// How long a text of `tokens` becomes: what is left, a sentinel per span and the end; the hidden, a
// sentinel per span and the end.
struct CorruptedLengths {
  int64_t tokens = 0, spans = 0, input = 0, target = 0;
};
CorruptedLengths lengths_of(int64_t tokens, const SpanCorruption& options);
// Of the longest text whose input is at most `input_length`; 568 tokens give 512 and 114.
// Requires input_length >= 4.
CorruptedLengths fit_input(int64_t input_length, const SpanCorruption& options);

// Lengths of `segments` non-empty pieces that add up to `total`, all such divisions equally likely.
// Requires 1 <= segments <= total.
std::vector<int64_t> random_segments(int64_t total, int64_t segments, const Random& random,
                                     uint64_t first_index);

// Which of `length` tokens are hidden; the first is not, the last is. Requires length >= 2.
std::vector<bool> noise_mask(int64_t length, const SpanCorruption& options, const Random& random);

// Ids of special tokens: sentinel i is first_sentinel - i, as in T5.
struct SpecialTokens {
  int32_t end = 0;  // ends input and target, and begins the target as the decoder's input
  int32_t first_sentinel = 0;
};

// `tokens` with the hidden spans (hidden: true) or the spans between them (false) each replaced by
// a sentinel, and the end after it.
std::vector<int32_t> replace_spans(std::span<const int32_t> tokens, const std::vector<bool>& mask,
                                   bool hidden, const SpecialTokens& special);

// Rows of fit_input().tokens tokens of a source. The row's `source` is the input, `targets` the
// target and `tokens` the target one later, after the end token. Masks are drawn by (seed,
// sequence). A row of fewer than two tokens stays padding.
std::shared_ptr<const BatchMaker> span_corruption_batches(int64_t input_length,
                                                          const SpanCorruption& options,
                                                          const SpecialTokens& special,
                                                          uint64_t seed);

}  // namespace switchyard
