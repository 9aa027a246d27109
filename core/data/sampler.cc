#include "core/data/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"

namespace switchyard {

uint64_t permute(uint64_t index, uint64_t size, const Random& random) {
  SY_CHECK(index < size, "index {} of {}", index, size);
  constexpr uint64_t kRounds = 8;  // fewer leave a measurable bias for sizes below 16
  const int half_bits =
      std::max(1, (static_cast<int>(std::bit_width(size - 1)) + 1) / 2);  // at most 32
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  do {  // fewer than four walks on average, since the domain is at most 4 * size
    uint64_t left = index >> half_bits, right = index & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = left ^ (random.bits64(round << 32 | right) & mask);
      left = right;
      right = mixed;
    }
    index = left << half_bits | right;
  } while (index >= size);
  return index;
}

Blend::Blend(std::vector<WeightedSource> sources, int64_t length, uint64_t seed)
    : sources_(std::move(sources)), length_(length), seed_(seed) {
  SY_CHECK(length > 0, "samples of {} tokens", length);
  if (sources_.empty()) throw ConfigError("data: expected at least one source, found none");
  double sum = 0;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const auto& [data, weight] = sources_[i];
    if (!std::isfinite(weight) || weight <= 0)
      throw ConfigError(
          fmt::format("data: weight {} of {} must be positive and finite; leave a source out to "
                      "give it no share",
                      weight, data->name()));
    if (source_samples(i) < 1)
      throw DataError(
          fmt::format("{}: {} tokens are less than one sample of {} + 1; use a shorter sequence "
                      "length or more text",
                      data->name(), data->num_tokens(), length));
    sum += weight;
  }
  for (auto& source : sources_) source.weight /= sum;
}

int64_t Blend::source_samples(size_t i) const {
  return sources_[i].source->num_sampled() / length_;
}

int64_t Blend::num_samples() const {
  int64_t samples = 0;
  for (size_t i = 0; i < sources_.size(); ++i) samples += source_samples(i);
  return samples;
}

uint64_t Blend::fingerprint() const {
  Fingerprint print;
  print.add(static_cast<uint64_t>(length_)).add(seed_);
  for (const auto& [data, weight] : sources_)
    print.add(data->fingerprint()).add(std::bit_cast<uint64_t>(weight));
  return print.value();
}

void Blend::check(const Cursor& cursor) const {
  const int64_t drawn = std::accumulate(cursor.draws.begin(), cursor.draws.end(), int64_t{0});
  const bool negative = std::ranges::any_of(cursor.draws, [](int64_t n) { return n < 0; });
  if (cursor.draws.size() != sources_.size() || drawn != cursor.sequence || negative)
    throw DataError(
        fmt::format("data position: {} draws of {} sources for sequence {}, expected as many draws "
                    "from {} sources; was the run begun on other data?",
                    drawn, cursor.draws.size(), cursor.sequence, sources_.size()));
}

// Megatron's rule (build_blending_indices). The first draw counts as due already, so that it goes
// to the heaviest source rather than to the first.
size_t Blend::next_source(const Cursor& cursor) const {
  const auto due = static_cast<double>(std::max<int64_t>(cursor.sequence, 1));
  size_t best = 0;
  double best_lag = -HUGE_VAL;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const double lag = sources_[i].weight * due - static_cast<double>(cursor.draws[i]);
    if (lag > best_lag) {
      best_lag = lag;
      best = i;
    }
  }
  return best;
}

Draw Blend::next(Cursor& cursor) const {
  const size_t source = next_source(cursor);
  const int64_t draw = cursor.draws[source]++, size = source_samples(source);
  ++cursor.sequence;
  const Random order(seed_, Stream::kShuffle, static_cast<uint64_t>(draw / size),
                     static_cast<uint32_t>(source));
  return {source, static_cast<int64_t>(permute(static_cast<uint64_t>(draw % size),
                                               static_cast<uint64_t>(size), order))};
}

}  // namespace switchyard
