#include "core/data/sampler.h"

#include <cmath>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/data/synthetic_source.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::HasSubstr;
using namespace testing_data;

constexpr int64_t kLength = 8;

std::shared_ptr<const TokenSource> source_of(int64_t samples, uint64_t seed = 1) {
  return std::make_shared<SyntheticSource>(samples * kLength + 1, 16, seed);
}

Blend blend_of(const std::vector<std::pair<int64_t, double>>& samples_and_weights,
               uint64_t seed = 7) {
  std::vector<WeightedSource> sources;
  for (const auto& [samples, weight] : samples_and_weights)
    sources.push_back({source_of(samples), weight});
  return Blend(std::move(sources), kLength, seed);
}

TEST(Permute, IsABijectionForEverySize) {
  for (uint64_t size = 1; size <= 300; ++size) {
    const Random random(3, Stream::kShuffle, size);
    std::vector<bool> seen(size, false);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t image = permute(i, size, random);
      ASSERT_LT(image, size);
      ASSERT_FALSE(seen[image]) << size;
      seen[image] = true;
    }
  }
}

TEST(Permute, StaysInsideSizesNearPowersOfTwo) {
  const Random random(3, Stream::kShuffle);
  for (int bit = 10; bit < 64; bit += 3)
    for (const int64_t offset : {-1, 0, 1}) {
      const uint64_t size = (uint64_t{1} << bit) + static_cast<uint64_t>(offset);
      std::set<uint64_t> images;
      for (uint64_t i = 0; i < 20; ++i) images.insert(permute(size - 1 - i, size, random));
      EXPECT_EQ(images.size(), 20u);
      EXPECT_LT(*images.rbegin(), size);
    }
}

// Over many keys, each position holds each value about equally often: chi-squared within 4 sigma.
// (A permutation matrix has 81 free cells, whose counts have 10/9 of an independent cell's
// variance.)
TEST(Permute, PutsEveryElementEverywhereEquallyOften) {
  constexpr int kSize = 10, kKeys = 20'000;
  double chi = 0;
  std::vector<int> count(kSize * kSize, 0);
  for (int key = 0; key < kKeys; ++key)
    for (uint64_t i = 0; i < kSize; ++i)
      ++count[i * kSize +
              permute(i, kSize, Random(1, Stream::kShuffle, static_cast<uint64_t>(key)))];
  for (const int n : count) chi += std::pow(n - kKeys / 10.0, 2) / (kKeys / 10.0);
  EXPECT_LT(chi * 9 / 10, 81 + 4 * std::sqrt(2 * 81.0));
}

TEST(Blend, GivesEverySampleOncePerEpochInANewOrder) {
  const Blend blend = blend_of({{50, 1}});
  Cursor cursor = blend.start();
  std::vector<std::vector<int64_t>> epochs(2);
  for (auto& epoch : epochs)
    for (int i = 0; i < 50; ++i) epoch.push_back(blend.next(cursor).sample);
  EXPECT_NE(epochs[0], epochs[1]);
  for (auto& epoch : epochs) EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), 50u);
}

TEST(Blend, KeepsEverySourceWithinOneSampleOfItsShare) {
  const std::vector<double> weights = {0.5, 0.3, 0.15, 0.05};
  const Blend blend = blend_of({{40, 5}, {7, 3}, {1000, 1.5}, {3, 0.5}});
  Cursor cursor = blend.start();
  for (int i = 1; i <= 2000; ++i) {
    blend.next(cursor);
    for (size_t s = 0; s < weights.size(); ++s)
      ASSERT_LT(std::abs(weights[s] * i - static_cast<double>(cursor.draws[s])), 1.5) << i;
  }
}

// Worked out by hand from Megatron's build_blending_indices.
TEST(Blend, ChoosesSourcesAsMegatronDoes) {
  const Blend blend = blend_of({{9, 0.25}, {9, 0.5}, {9, 0.25}});
  Cursor cursor = blend.start();
  std::string order;
  for (int i = 0; i < 12; ++i) order += static_cast<char>('0' + blend.next(cursor).source);
  EXPECT_EQ(order, "102101210121");
}

TEST(Blend, OrderDependsOnTheSeed) {
  const Blend a = blend_of({{50, 1}}, 1), b = blend_of({{50, 1}}, 2);
  Cursor at_a = a.start(), at_b = b.start();
  int equal = 0;
  for (int i = 0; i < 50; ++i) equal += a.next(at_a) == b.next(at_b);
  EXPECT_LT(equal, 10);
}

TEST(Blend, RefusesWeightsThatAreNoShares) {
  for (const double weight : {0.0, -1.0, std::nan(""), HUGE_VAL})
    EXPECT_THAT(message_of<ConfigError>([&] {
                  blend_of({{5, 1}, {5, weight}});
                }),
                HasSubstr("must be positive and finite"));
  EXPECT_THAT(message_of<ConfigError>([&] { blend_of({}); }), HasSubstr("at least one source"));
}

TEST(Blend, RefusesASourceShorterThanOneSample) {
  const auto tiny = std::make_shared<VectorSource>(std::vector<std::vector<int32_t>>{{1, 2, 3}});
  EXPECT_THAT(message_of<DataError>([&] {
                Blend({{tiny, 1}}, 3, 0);
              }),
              HasSubstr("3 tokens are less than one sample of 3 + 1"));
  EXPECT_EQ(Blend({{tiny, 1}}, 2, 0).num_samples(), 1);
}

TEST(Blend, RefusesACursorOfOtherData) {
  const Blend blend = blend_of({{5, 1}, {5, 1}});
  EXPECT_NO_THROW(blend.check({3, {2, 1}}));
  for (const Cursor& cursor : {Cursor{3, {3}}, Cursor{3, {2, 2}}, Cursor{0, {-1, 1}}})
    EXPECT_THAT(message_of<DataError>([&] { blend.check(cursor); }), HasSubstr("other data"));
}

TEST(Blend, FingerprintFollowsDataWeightsLengthAndSeed) {
  const auto print = [](uint64_t data, double weight, int64_t length, uint64_t seed) {
    return Blend({{source_of(9, data), weight}, {source_of(9), 1}}, length, seed).fingerprint();
  };
  const uint64_t first = print(5, 2, 8, 7);
  EXPECT_EQ(print(5, 2, 8, 7), first);
  EXPECT_NE(print(6, 2, 8, 7), first);
  EXPECT_NE(print(5, 3, 8, 7), first);
  EXPECT_NE(print(5, 2, 4, 7), first);
  EXPECT_NE(print(5, 2, 8, 8), first);
}

}  // namespace
}  // namespace switchyard
