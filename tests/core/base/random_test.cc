#include "core/base/random.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(Random, IsAPureFunctionOfItsKeyAndIndex) {
  const Random a(7, Stream::kDropout, 3, 2), b(7, Stream::kDropout, 3, 2);
  for (uint64_t i : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 40}) EXPECT_EQ(a.bits(i), b.bits(i));
}

TEST(Random, EveryPartOfTheKeyChangesTheDraws) {
  std::set<uint64_t> draws;
  for (uint64_t seed : {1, 2})
    for (Stream stream : {Stream::kInit, Stream::kShuffle})
      for (uint64_t step : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 33})
        for (uint32_t layer : {0u, 5u}) draws.insert(Random(seed, stream, step, layer).bits64(11));
  EXPECT_EQ(draws.size(), 24u);
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  const Random random(1, Stream::kInit);
  const int n = 200'000;
  double uniform_sum = 0, normal_sum = 0, normal_square = 0, cut_square = 0, cut_max = 0;
  for (int i = 0; i < n; ++i) {
    uniform_sum += random.uniform(i);
    const double x = random.normal(i), c = random.truncated_normal(i);
    normal_sum += x;
    normal_square += x * x;
    cut_square += c * c;
    cut_max = std::max(cut_max, std::abs(c));
  }
  EXPECT_NEAR(uniform_sum / n, 0.5, 0.005);
  EXPECT_NEAR(normal_sum / n, 0, 0.01);
  EXPECT_NEAR(normal_square / n, 1, 0.02);
  EXPECT_NEAR(std::sqrt(cut_square / n), 0.8796, 0.005);  // s.d. of a normal cut at +-2
  EXPECT_LE(cut_max, 2.0);
}

TEST(Random, ATruncatedNormalReachesItsCutAndNotBeyond) {
  const Random random(7, Stream::kInit);
  for (const double cut : {0.5, 2.0, 3.0, 4.0}) {
    double largest = 0, squares = 0;
    constexpr int kDraws = 200'000;
    for (int i = 0; i < kDraws; ++i) {
      const double x = random.truncated_normal(i, cut);
      largest = std::max(largest, std::abs(x));
      squares += x * x / kDraws;
    }
    EXPECT_LE(largest, cut);
    EXPECT_GT(largest, cut < 4 ? 0.98 * cut : 3.6) << cut;
    const double density = std::exp(-cut * cut / 2) / std::sqrt(2 * std::numbers::pi);
    const double variance = 1 - 2 * cut * density / std::erf(cut / std::numbers::sqrt2);
    EXPECT_NEAR(squares, variance, 0.02 * variance) << cut;
  }
}

}  // namespace
}  // namespace switchyard
