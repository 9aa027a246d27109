#include "core/base/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace switchyard {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

double unit_double(uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53; }

// Inverse of the standard normal distribution function: Newton's method on erfc from a first guess
// that is right to 0.003 far into the tails (Abramowitz and Stegun, 26.2.22), where from a worse
// one it would leave for infinity.
double inverse_normal(double p) {
  const double t = std::sqrt(-2 * std::log(std::min(p, 1 - p)));
  const double size = t - (2.30753 + 0.27061 * t) / (1 + t * (0.99229 + 0.04481 * t));
  double x = p < 0.5 ? -size : size;
  for (int i = 0; i < 4; ++i) {
    const double error = 0.5 * std::erfc(-x * std::numbers::sqrt2 / 2) - p;
    const double density = std::exp(-0.5 * x * x) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    x -= error / density;
  }
  return x;
}

}  // namespace

Random::Random(uint64_t seed, Stream stream, uint64_t step, uint32_t layer) {
  // The step and the layer pass through the generator once, so that each (stream, step, layer) gets
  // its own key.
  const auto mixed = philox({static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32), layer,
                             static_cast<uint32_t>(stream)},
                            {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  key_ = {mixed[0], mixed[1]};
  counter_high_ = {mixed[2], mixed[3]};
}

std::array<uint32_t, 4> Random::bits(uint64_t index) const {
  return philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), counter_high_[0],
                 counter_high_[1]},
                key_);
}

uint64_t Random::bits64(uint64_t index) const {
  const auto words = bits(index);
  return uint64_t{words[1]} << 32 | words[0];
}

float Random::uniform(uint64_t index) const {
  return static_cast<float>(bits(index)[0] >> 8) * 0x1p-24f;
}

double Random::normal(uint64_t index) const {
  const auto words = bits(index);
  const double radius = unit_double(uint64_t{words[1]} << 32 | words[0]);
  const double angle = unit_double(uint64_t{words[3]} << 32 | words[2]);
  return std::sqrt(-2 * std::log(radius)) * std::cos(2 * std::numbers::pi * angle);
}

double Random::truncated_normal(uint64_t index, double cut) const {
  const double below = 0.5 * std::erfc(cut / std::numbers::sqrt2);  // probability left of -cut
  return inverse_normal(below + (1 - 2 * below) * unit_double(bits64(index)));
}

}  // namespace switchyard
