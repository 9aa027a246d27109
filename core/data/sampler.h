#pragma once
// Which sample comes when: weighted sources, each shuffled anew every epoch, without index arrays.
// The order is a pure function of (seed, sources, weights, length); ranks do not enter.

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/random.h"
#include "core/data/token_source.h"

namespace switchyard {

// A bijection of [0, size) keyed by `random`: a Feistel network over the next power of four, walked
// until it lands inside. Requires index < size.
uint64_t permute(uint64_t index, uint64_t size, const Random& random);

struct WeightedSource {
  std::shared_ptr<const TokenSource> source;
  double weight = 1;
};

// One sample: `length` tokens of a source and the one after them, from sample * length.
struct Draw {
  size_t source = 0;
  int64_t sample = 0;
  bool operator==(const Draw&) const = default;
};

// All that a resumed run needs to know about its data.
struct Cursor {
  int64_t sequence = 0;        // global sequences drawn so far
  std::vector<int64_t> draws;  // of these, from each source
  bool operator==(const Cursor&) const = default;
};

// Cheap to copy; const members are thread-safe.
class Blend {
 public:
  // Weights are normalised. ConfigError for a weight that is not positive and finite; DataError for
  // a source shorter than one sample.
  Blend(std::vector<WeightedSource> sources, int64_t length, uint64_t seed);

  int64_t length() const { return length_; }
  // How many samples the sources have together.
  int64_t num_samples() const;
  const TokenSource& source(size_t i) const { return *sources_[i].source; }
  // Follows from the data, weights, length and seed: the same fingerprint, the same order.
  uint64_t fingerprint() const;

  Cursor start() const { return {0, std::vector<int64_t>(sources_.size(), 0)}; }
  // DataError unless the cursor can be one of this blend.
  void check(const Cursor& cursor) const;

  // The sample at the cursor, which moves on by one. The source is the one that lags most behind
  // its share (ties to the lowest index); its n-th draw is number n mod num_samples of epoch n /
  // num_samples, in that epoch's order.
  Draw next(Cursor& cursor) const;

 private:
  int64_t source_samples(size_t i) const;
  size_t next_source(const Cursor& cursor) const;

  std::vector<WeightedSource> sources_;
  int64_t length_;
  uint64_t seed_;
};

}  // namespace switchyard
