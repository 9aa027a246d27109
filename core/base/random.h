#pragma once
// Counter-based random streams (Philox 4x32-10; Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC'11). A draw is a pure function of (seed, stream, step, layer, index): it does not
// depend on the number of ranks, on recomputation, or on what was drawn before, and there is no
// state to save.

#include <array>
#include <cstdint>

namespace switchyard {

// What a draw is for. The numbers are part of the reproducibility contract: never renumber, only
// append.
enum class Stream : uint32_t {
  kInit = 1,          // parameter initialisation; index = element of the global tensor
  kRouterJitter = 2,  // index = global token * d_model + feature
  kRouterNoise = 3,
  kSecondExpert = 4,
  kDrop = 5,  // random drop policy
  kDropout = 6,
  kExpertDropout = 7,
  kShuffle = 8,          // data order
  kSample = 9,           // text generation
  kSynthetic = 10,       // generated tokens
  kRouterDropout = 20,   // index = global token * d_model + feature
  kRouterSample = 21,    // sampled selection; index = global token * experts + expert
  kRouterHash = 22,      // hash routing; index = token id * experts + expert
  kGroupNoise = 23,      // of a two-level gate; index = global token * groups + group
  kDeadExpert = 24,      // index = element of the global tensor
  kSpanCorruption = 30,  // step = sequence; index = within its segments
  kSampledSoftmax = 31,  // index = candidate
  // index = (global query token * heads + head) * keys + key
  kAttentionDropout = 70,
  kFfnDropout = 71,  // of dense FFNs; index = global token * d_ff + feature
};

// One keyed stream. Cheap to copy; thread-safe, since it has no state.
class Random {
 public:
  Random(uint64_t seed, Stream stream, uint64_t step = 0, uint32_t layer = 0);

  // 128 random bits for a 64-bit index.
  std::array<uint32_t, 4> bits(uint64_t index) const;
  uint64_t bits64(uint64_t index) const;
  // Uniform in [0, 1) with 24 bits, exact in float32.
  float uniform(uint64_t index) const;
  // Standard normal by Box-Muller.
  double normal(uint64_t index) const;
  // Normal cut at +-`cut` standard deviations (drawn by inversion, so one draw each); unit scale
  // before the cut.
  double truncated_normal(uint64_t index, double cut = 2) const;

 private:
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 2> counter_high_;
};

}  // namespace switchyard
