#include "core/data/loader.h"

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/data/synthetic_source.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::HasSubstr;
using namespace testing_data;

constexpr int64_t kLength = 16;

Blend two_sources() {
  return Blend({{std::make_shared<SyntheticSource>(40 * kLength + 1, 32, 1), 0.7},
                {std::make_shared<SyntheticSource>(25 * kLength + 1, 32, 2), 0.3}},
               kLength, 11);
}

bool same_batches(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  bool equal = a.size() == b.size();
  for (size_t i = 0; equal && i < a.size(); ++i)
    equal = a[i].first_sequence == b[i].first_sequence && a[i].tokens == b[i].tokens &&
            a[i].targets == b[i].targets && a[i].documents == b[i].documents;
  return equal;
}

// Global sequence -> its tokens, over all ranks and `steps` steps.
std::map<int64_t, std::vector<int32_t>> sequences(int64_t ranks, int64_t accumulation, int steps) {
  std::map<int64_t, std::vector<int32_t>> found;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    BatchLoader loader(
        two_sources(),
        {.global_sequences = 8, .accumulation = accumulation, .rank = rank, .num_ranks = ranks},
        two_sources().start());
    for (int step = 0; step < steps; ++step)
      for (const Batch& batch : loader.next_step())
        for (int64_t row = 0; row < batch.num_sequences; ++row) {
          const auto begin = batch.tokens.begin() + row * kLength;
          const bool is_new =
              found.emplace(batch.first_sequence + row, std::vector(begin, begin + kLength)).second;
          EXPECT_TRUE(is_new) << "sequence " << batch.first_sequence + row << " came twice";
        }
  }
  return found;
}

TEST(BatchLoader, GivesTheSameGlobalSequencesToAnyNumberOfRanks) {
  const auto expected = sequences(1, 1, 12);
  EXPECT_EQ(expected.size(), 96u);
  EXPECT_EQ(expected.rbegin()->first, 95);
  for (const int64_t ranks : {1, 2, 4})
    for (const int64_t accumulation : {1, 2})
      EXPECT_EQ(sequences(ranks, accumulation, 12), expected);
}

TEST(BatchLoader, GivesEachRankItsShareOfEachMicroBatch) {
  BatchLoader loader(two_sources(),
                     {.global_sequences = 12, .accumulation = 2, .rank = 1, .num_ranks = 3},
                     two_sources().start());
  loader.next_step();
  const auto step = loader.next_step();
  ASSERT_EQ(step.size(), 2u);
  EXPECT_EQ(step[0].first_sequence, 12 + 2);
  EXPECT_EQ(step[1].first_sequence, 12 + 6 + 2);
  EXPECT_EQ(step[0].num_sequences, 2);
}

TEST(BatchLoader, ResumesFromAnyCursorAsIfNeverStopped) {
  const LoaderOptions options{.global_sequences = 8, .accumulation = 2, .rank = 1, .num_ranks = 2};
  const Blend blend = two_sources();
  Cursor expected = blend.start();
  BatchLoader whole(blend, options, expected);
  for (int step = 0; step < 20; ++step) {
    BatchLoader resumed(two_sources(), options, whole.cursor());
    EXPECT_TRUE(same_batches(resumed.next_step(), whole.next_step())) << step;
    EXPECT_EQ(resumed.cursor(), whole.cursor());
    for (int i = 0; i < 8; ++i) blend.next(expected);
    EXPECT_EQ(whole.cursor(), expected);
  }
}

// Steps of 1, 2, 3 and again 3 micro-batches, by the sequences drawn before.
TEST(BatchLoader, MakesStepsOfAsManyMicroBatchesAsItIsTold) {
  LoaderOptions options{.global_sequences = 8, .accumulation = 2, .rank = 1, .num_ranks = 2};
  options.micro_batches = [](int64_t step, int64_t sequences) {
    EXPECT_EQ(sequences, step < 4 ? 2 * step * (step + 1) : 24 + 12 * (step - 3));
    return std::min<int64_t>(3, step + 1);
  };
  LoaderOptions plain = options;
  plain.micro_batches = nullptr;
  plain.global_sequences = 4;
  plain.accumulation = 1;
  BatchLoader ramp(two_sources(), options, two_sources().start());
  BatchLoader single(two_sources(), plain, two_sources().start());
  for (const size_t count : {1, 2, 3}) {
    const Cursor before = ramp.cursor();
    const auto step = ramp.next_step();
    EXPECT_EQ(step.size(), count);
    for (const Batch& batch : step) EXPECT_TRUE(same_batches({batch}, single.next_step()));
    LoaderOptions later = options;
    later.first_step = static_cast<int64_t>(count) - 1;
    later.prefetch = 1;
    BatchLoader resumed(two_sources(), later, before);
    EXPECT_TRUE(same_batches(resumed.next_step(), step));
  }
}

TEST(BatchLoader, RefusesDataBelowOneGlobalBatchAndBatchesThatDoNotDivide) {
  const auto make = [](int64_t global, int64_t accumulation, int64_t ranks) {
    BatchLoader(two_sources(),
                {.global_sequences = global, .accumulation = accumulation, .num_ranks = ranks},
                two_sources().start());
  };
  EXPECT_NO_THROW(make(65, 1, 1));
  EXPECT_THAT(message_of<DataError>([&] { make(66, 1, 1); }),
              HasSubstr("65 samples of 16 tokens, less than one global batch of 66"));
  const auto grows_to = [](int64_t largest) {
    BatchLoader(two_sources(), {.global_sequences = 8, .largest_step = largest},
                two_sources().start());
  };
  EXPECT_NO_THROW(grows_to(65));
  EXPECT_THAT(message_of<DataError>([&] { grows_to(66); }), HasSubstr("one global batch of 66"));
  EXPECT_THAT(message_of<ConfigError>([&] { make(8, 3, 1); }), HasSubstr("accumulation (3)"));
  EXPECT_THAT(message_of<ConfigError>([&] { make(8, 4, 4); }), HasSubstr("data ranks (4)"));
}

// Gives tokens until `limit`, then throws.
class FailingSource final : public TokenSource {
 public:
  std::string name() const override { return "failing"; }
  int64_t num_tokens() const override { return 1000; }
  void read(int64_t first, std::span<int32_t> tokens) const override {
    if (first >= 500) throw DataError("the disk is on fire");
    std::ranges::fill(tokens, 1);
  }
  void segments(int64_t, std::span<int32_t> numbers) const override {
    std::ranges::fill(numbers, 0);
  }
  uint64_t fingerprint() const override { return 0; }
};

TEST(BatchLoader, HandsTheReadersErrorToTheCallerAgainAndAgain) {
  const Blend blend({{std::make_shared<FailingSource>(), 1}}, kLength, 1);
  BatchLoader loader(blend, {.global_sequences = 2}, blend.start());
  const auto until_it_fails = [&] {
    for (;;) loader.next_step();
  };
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(message_of<DataError>(until_it_fails), "the disk is on fire");
}

TEST(BatchLoader, CanBeDroppedAtAnyTime) {
  for (int64_t prefetch = 1; prefetch < 4; ++prefetch)
    for (int steps = 0; steps < 4; ++steps) {
      BatchLoader loader(two_sources(), {.global_sequences = 4, .prefetch = prefetch},
                         two_sources().start());
      for (int i = 0; i < steps; ++i) loader.next_step();
    }
}

}  // namespace
}  // namespace switchyard
