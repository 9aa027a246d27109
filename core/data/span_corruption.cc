#include "core/data/span_corruption.h"

#include <algorithm>
#include <cmath>

#include "core/base/errors.h"

namespace switchyard {
namespace {

// As Python and TensorFlow: halves go to the even neighbour.
int64_t round_half_even(double value) { return std::llrint(std::nearbyint(value)); }

struct Counts {
  int64_t hidden, spans;
};

Counts counts_of(int64_t length, const SpanCorruption& options) {
  const int64_t hidden = std::clamp<int64_t>(
      round_half_even(static_cast<double>(length) * options.density), 1, length - 1);
  const int64_t spans =
      std::max<int64_t>(1, round_half_even(static_cast<double>(hidden) / options.mean_span));
  return {hidden, std::min({spans, hidden, length - hidden})};
}

class SpanRows final : public BatchMaker {
 public:
  SpanRows(const CorruptedLengths& lengths, const SpanCorruption& options,
           const SpecialTokens& special, uint64_t seed)
      : BatchMaker({lengths.tokens, lengths.target, lengths.input}),
        options_(options),
        special_(special),
        seed_(seed) {}

  void fill(Batch& batch, int64_t row, const TokenSource& source, int64_t first,
            int64_t sequence) const override {
    const int64_t have = std::min(sample_tokens(), source.num_tokens() - first);
    if (have < 2) return;
    std::vector<int32_t> tokens(static_cast<size_t>(have));
    source.read(first, tokens);
    const Random random(seed_, Stream::kSpanCorruption, static_cast<uint64_t>(sequence));
    const std::vector<bool> mask = noise_mask(have, options_, random);
    fill_pair(batch, row, replace_spans(tokens, mask, true, special_),
              replace_spans(tokens, mask, false, special_), special_.end);
  }

 private:
  SpanCorruption options_;
  SpecialTokens special_;
  uint64_t seed_;
};

}  // namespace

CorruptedLengths lengths_of(int64_t tokens, const SpanCorruption& options) {
  const auto [hidden, spans] = counts_of(tokens, options);
  return {tokens, spans, tokens - hidden + spans + 1, hidden + spans + 1};
}

CorruptedLengths fit_input(int64_t input_length, const SpanCorruption& options) {
  SY_CHECK(input_length >= 4, "an input of {} tokens holds no span", input_length);
  // A longer text never makes a shorter input, and some text makes one too long.
  int64_t fits = 2, too_long = 4;
  while (lengths_of(too_long, options).input <= input_length) too_long *= 2;
  while (too_long - fits > 1) {
    const int64_t middle = fits + (too_long - fits) / 2;
    (lengths_of(middle, options).input <= input_length ? fits : too_long) = middle;
  }
  return lengths_of(fits, options);
}

std::vector<int64_t> random_segments(int64_t total, int64_t segments, const Random& random,
                                     uint64_t first_index) {
  SY_CHECK(1 <= segments && segments <= total, "{} segments of {}", segments, total);
  // A shuffled row of total - 1 marks, segments - 1 of which begin a new segment.
  std::vector<uint8_t> begins(static_cast<size_t>(total - 1), 0);
  std::fill_n(begins.begin(), segments - 1, 1);
  for (size_t i = begins.size(); i > 1; --i)
    std::swap(begins[i - 1], begins[random.bits64(first_index + i) % i]);
  std::vector<int64_t> lengths{1};
  for (const uint8_t begin : begins)
    if (begin)
      lengths.push_back(1);
    else
      ++lengths.back();
  return lengths;
}

std::vector<bool> noise_mask(int64_t length, const SpanCorruption& options, const Random& random) {
  const auto [hidden, spans] = counts_of(length, options);
  const auto hidden_lengths = random_segments(hidden, spans, random, 0);
  const auto shown_lengths = random_segments(length - hidden, spans, random, uint64_t{1} << 32);
  std::vector<bool> mask;
  for (size_t i = 0; i < hidden_lengths.size(); ++i) {
    mask.insert(mask.end(), static_cast<size_t>(shown_lengths[i]), false);
    mask.insert(mask.end(), static_cast<size_t>(hidden_lengths[i]), true);
  }
  return mask;
}

std::vector<int32_t> replace_spans(std::span<const int32_t> tokens, const std::vector<bool>& mask,
                                   bool hidden, const SpecialTokens& special) {
  std::vector<int32_t> out;
  int32_t sentinel = special.first_sentinel;
  for (size_t i = 0; i < tokens.size(); ++i)
    if (mask[i] != hidden)
      out.push_back(tokens[i]);
    else if (i == 0 || mask[i - 1] != hidden)
      out.push_back(sentinel--);
  out.push_back(special.end);
  return out;
}

std::shared_ptr<const BatchMaker> span_corruption_batches(int64_t input_length,
                                                          const SpanCorruption& options,
                                                          const SpecialTokens& special,
                                                          uint64_t seed) {
  return std::make_shared<SpanRows>(fit_input(input_length, options), options, special, seed);
}

}  // namespace switchyard
