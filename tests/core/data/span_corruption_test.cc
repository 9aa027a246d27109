#include "core/data/span_corruption.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>

#include "core/data/loader.h"
#include "core/data/synthetic_source.h"

namespace switchyard {
namespace {

using testing::ElementsAre;

constexpr SpecialTokens kSpecial{.end = 1, .first_sentinel = 99};

TEST(SpanCorruption, HasTheLengthsOfT5) {
  const CorruptedLengths lengths = fit_input(512, {});
  EXPECT_EQ(lengths.tokens, 568);
  EXPECT_EQ(lengths.input, 512);
  EXPECT_EQ(lengths.target, 114);
  EXPECT_EQ(lengths.spans, 28);
}

TEST(SpanCorruption, NeverLeavesTheInputTooLong) {
  for (int64_t length = 4; length < 300; ++length) {
    const CorruptedLengths lengths = fit_input(length, {});
    EXPECT_LE(lengths.input, length);
    EXPECT_GT(lengths_of(lengths.tokens + 1, {}).input, length);
  }
}

// One token more at a time.
TEST(SpanCorruption, FitsTheLongestText) {
  for (const SpanCorruption& options :
       {SpanCorruption{}, {0.5, 1}, {0.5, 3}, {0.01, 7}, {0.99, 2}, {0.9, 60}}) {
    for (int64_t input = 4; input < 200; ++input) {
      int64_t tokens = 2;
      while (lengths_of(tokens + 1, options).input <= input) ++tokens;
      EXPECT_EQ(fit_input(input, options).tokens, tokens)
          << input << " " << options.density << " " << options.mean_span;
    }
  }
  EXPECT_GT(fit_input(512, {0.9999999, 1e9}).tokens, 512);  // and does so soon
}

TEST(SpanCorruption, ReplacesEachSpanByTheNextSentinel) {
  const std::vector<int32_t> tokens{10, 11, 12, 13, 14, 15, 16};
  const std::vector<bool> mask{false, true, true, false, false, true, true};
  EXPECT_THAT(replace_spans(tokens, mask, true, kSpecial), ElementsAre(10, 99, 13, 14, 98, 1));
  EXPECT_THAT(replace_spans(tokens, mask, false, kSpecial), ElementsAre(99, 11, 12, 98, 15, 16, 1));
}

TEST(SpanCorruption, DividesIntoSegmentsThatAreNotEmpty) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const auto lengths = random_segments(20, 6, Random(seed, Stream::kSpanCorruption), 0);
    EXPECT_EQ(lengths.size(), 6u);
    EXPECT_GE(*std::ranges::min_element(lengths), 1);
    EXPECT_EQ(std::accumulate(lengths.begin(), lengths.end(), int64_t{0}), 20);
  }
  const Random random(1, Stream::kSpanCorruption);
  EXPECT_THAT(random_segments(3, 3, random, 0), ElementsAre(1, 1, 1));
  EXPECT_THAT(random_segments(5, 1, random, 0), ElementsAre(5));
}

TEST(SpanCorruption, MakesAllDivisionsEquallyLikely) {
  std::vector<int> first_length(5);
  constexpr int kDraws = 6000;
  for (uint64_t seed = 0; seed < kDraws; ++seed) {
    // 5 = a + b: four divisions
    ++first_length[static_cast<size_t>(
        random_segments(5, 2, Random(seed, Stream::kSpanCorruption), 0)[0])];
  }
  for (size_t length = 1; length <= 4; ++length) {
    EXPECT_NEAR(first_length[length], kDraws / 4, 150) << length;
  }
}

TEST(SpanCorruption, HidesTheShareAskedForAndNotTheFirstToken) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto mask = noise_mask(568, {}, Random(seed, Stream::kSpanCorruption));
    ASSERT_EQ(mask.size(), 568u);
    EXPECT_EQ(std::ranges::count(mask, true), 85);
    EXPECT_FALSE(mask.front());
    EXPECT_TRUE(mask.back());
    int spans = 0;
    for (size_t i = 1; i < mask.size(); ++i) spans += mask[i] && !mask[i - 1];
    EXPECT_EQ(spans, 28);
  }
}

// Puts the hidden spans of a target back where their sentinels stand in the input.
std::vector<int32_t> restored(const std::vector<int32_t>& input, const std::vector<int32_t>& target,
                              int32_t least_sentinel) {
  std::vector<int32_t> text;
  for (const int32_t token : input) {
    if (token == kSpecial.end) break;
    if (token < least_sentinel) {
      text.push_back(token);
      continue;
    }
    auto at = std::ranges::find(target, token) + 1;
    for (; *at < least_sentinel && *at != kSpecial.end; ++at) text.push_back(*at);
  }
  return text;
}

TEST(SpanCorruption, KeepsEveryTokenInInputOrTarget) {
  std::vector<int32_t> tokens(60);
  std::iota(tokens.begin(), tokens.end(), 10);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto mask = noise_mask(60, {}, Random(seed, Stream::kSpanCorruption));
    EXPECT_EQ(restored(replace_spans(tokens, mask, true, kSpecial),
                       replace_spans(tokens, mask, false, kSpecial), 90),
              tokens);
  }
}

TEST(SpanCorruption, FillsRowsWithShiftedTargets) {
  const SyntheticSource source(4000, 50, 3);
  const auto maker = span_corruption_batches(64, {}, {49, 99}, 7);
  Batch batch = maker->make(10, 2);
  maker->fill(batch, 0, source, 0, 10);
  maker->fill(batch, 1, source, maker->sample_tokens(), 11);
  const CorruptedLengths lengths = fit_input(64, {});
  EXPECT_EQ(batch.source_length, lengths.input);
  EXPECT_EQ(batch.length, lengths.target);
  EXPECT_THAT(batch.source_counts, ElementsAre(lengths.input, lengths.input));
  for (int64_t row = 0; row < 2; ++row) {
    const auto at = static_cast<size_t>(row * batch.length);
    EXPECT_EQ(batch.tokens[at], 49);
    EXPECT_EQ(batch.targets[at], 99);
    for (size_t i = at; i + 1 < at + static_cast<size_t>(batch.length); ++i) {
      EXPECT_EQ(batch.tokens[i + 1], batch.targets[i]);
    }
    EXPECT_EQ(batch.targets[at + static_cast<size_t>(batch.length) - 1], 49);
  }
}

TEST(SpanCorruption, GivesTheSameRowsToAnyNumberOfRanksAndOthersInTheNextEpoch) {
  const auto maker = span_corruption_batches(32, {}, {49, 99}, 7);
  const auto source = std::make_shared<SyntheticSource>(maker->sample_tokens() * 4 + 1, 50, 3);
  const Blend blend({{source, 1.0}}, maker->sample_tokens(), 1);
  const auto rows_of = [&](int64_t rank, int64_t ranks) {
    BatchLoader loader(blend, {4, 1, rank, ranks, 2, maker}, blend.start());
    std::vector<std::vector<int32_t>> steps;
    for (int step = 0; step < 2; ++step) steps.push_back(loader.next_step()[0].source);
    return steps;
  };
  const auto whole = rows_of(0, 1), first = rows_of(0, 2), second = rows_of(1, 2);
  for (size_t step = 0; step < 2; ++step) {
    std::vector<int32_t> both = first[step];
    both.insert(both.end(), second[step].begin(), second[step].end());
    EXPECT_EQ(both, whole[step]);
  }
  auto sorted = whole;
  for (auto& step : sorted) std::ranges::sort(step);
  EXPECT_NE(sorted[0], sorted[1]);  // the same text in both epochs, hidden elsewhere
}

TEST(SpanCorruption, LeavesARowWithoutTextAsPadding) {
  const SyntheticSource source(100, 50, 3);
  const auto maker = span_corruption_batches(32, {}, {49, 99}, 7);
  Batch batch = maker->make(0, 1);
  maker->fill(batch, 0, source, 99, 0);
  EXPECT_EQ(batch.source_counts[0], 0);
  EXPECT_EQ(batch.targets[0], kNoTarget);
}

}  // namespace
}  // namespace switchyard
