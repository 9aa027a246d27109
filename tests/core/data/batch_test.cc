#include "core/data/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/data/evaluation.h"
#include "core/data/synthetic_source.h"
#include "tests/core/data/test_files.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using namespace testing_data;

constexpr int32_t kEnd = 99;

std::shared_ptr<const VectorSource> three_documents() {
  return std::make_shared<VectorSource>(
      std::vector<std::vector<int32_t>>{{1, 2, kEnd}, {}, {3, kEnd}, {4, 5, 6, 7, kEnd}});
}

TEST(Batch, TheEndOfADocumentIsPredictedByItAndOpensTheNext) {
  Batch batch = make_batch(0, 2, 4);
  fill_row(batch, 0, *three_documents(), 0);
  fill_row(batch, 1, *three_documents(), 4);
  EXPECT_THAT(batch.tokens, ElementsAre(1, 2, kEnd, 3, /**/ kEnd, 4, 5, 6));
  EXPECT_THAT(batch.targets, ElementsAre(2, kEnd, 3, kEnd, /**/ 4, 5, 6, 7));
  EXPECT_THAT(batch.documents, ElementsAre(0, 0, 1, 1, /**/ 0, 0, 0, 0));
}

TEST(Batch, CountsAsOneDocumentWhereAttentionCrossesThem) {
  for (const bool across : {false, true}) {
    const auto maker = next_token_batches(4, across);
    Batch batch = maker->make(0, 2);
    maker->fill(batch, 1, *three_documents(), 0, 1);
    EXPECT_THAT(batch.targets, ElementsAre(-1, -1, -1, -1, /**/ 2, kEnd, 3, kEnd));
    EXPECT_THAT(batch.documents,
                ElementsAre(0, 0, 0, 0, /**/ 0, 0, across ? 0 : 1, across ? 0 : 1));
  }
}

TEST(Batch, PadsARowThatTheSourceCannotFill) {
  Batch batch = make_batch(0, 1, 4);
  fill_row(batch, 0, *three_documents(), 8);
  EXPECT_THAT(batch.tokens, ElementsAre(7, kEnd, 0, 0));
  EXPECT_THAT(batch.targets, ElementsAre(kEnd, -1, -1, -1));
  EXPECT_THAT(batch.documents, ElementsAre(0, 0, 0, 0));
}

// Every target of the source is met exactly once, for any number of ranks, in equally many batches.
TEST(EvalLoader, CoversTheSourceOnceInLockstep) {
  const auto source = std::make_shared<SyntheticSource>(1003, 32, 5);
  std::vector<int32_t> expected;
  for (int64_t ranks : {1, 2, 4}) {
    std::vector<std::vector<int32_t>> rows(200);
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const EvalLoader loader(
          source, {.length = 16, .batch_sequences = 3, .rank = rank, .num_ranks = ranks});
      EXPECT_EQ(loader.num_sequences(), 63);
      EXPECT_EQ(loader.num_batches(), (63 + 3 * ranks - 1) / (3 * ranks));
      for (int64_t i = 0; i < loader.num_batches(); ++i) {
        const Batch batch = loader.batch(i);
        ASSERT_EQ(batch.targets.size(), 48u);
        for (int64_t row = 0; row < 3; ++row)
          rows.at(static_cast<size_t>(batch.first_sequence + row))
              .assign(batch.targets.begin() + row * 16, batch.targets.begin() + (row + 1) * 16);
      }
    }
    std::vector<int32_t> targets;
    for (const auto& row : rows)
      for (const int32_t target : row)
        if (target != kNoTarget) targets.push_back(target);
    if (ranks == 1) expected = targets;
    EXPECT_EQ(targets, expected);
  }
  EXPECT_EQ(expected.size(), 1003u - 1);  // all but the first token
}

TEST(EvalLoader, StopsAtTheGivenNumberOfSequences) {
  const auto source = std::make_shared<SyntheticSource>(1003, 32, 5);
  const EvalLoader loader(
      source, {.length = 16, .max_sequences = 5, .batch_sequences = 2, .rank = 1, .num_ranks = 2});
  EXPECT_EQ(loader.num_batches(), 2);
  const Batch last = loader.batch(1);  // rows 6 and 7 do not exist
  EXPECT_EQ(last.first_sequence, 6);
  for (const int32_t target : last.targets) EXPECT_EQ(target, kNoTarget);
}

TEST(SyntheticSource, IsAPureFunctionOfThePosition) {
  const SyntheticSource source(5000, 50, 3);
  std::vector<int32_t> all(5000), part(300), segments(300);
  source.read(0, all);
  for (const int64_t first : {0, 1, 127, 128, 1000, 4700}) {
    source.read(first, part);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first)) << first;
    source.segments(first, segments);
    for (size_t i = 1; i < part.size(); ++i)
      ASSERT_EQ(segments[i] - segments[i - 1], part[i - 1] == 49 ? 1 : 0) << first << " " << i;
  }
}

TEST(SyntheticSource, ALaterPartIsTheSameWalkFurtherOn) {
  const SyntheticSource whole(5000, 50, 3), part(1000, 50, 3, 1280);
  std::vector<int32_t> all(5000), tokens(1000);
  whole.read(0, all);
  part.read(0, tokens);
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), all.begin() + 1280));
  EXPECT_NE(part.fingerprint(), SyntheticSource(1000, 50, 3).fingerprint());
}

TEST(SyntheticSource, FollowsItsBigramsNineTimesInTen) {
  const SyntheticSource source(200'000, 50, 3);
  std::vector<int32_t> tokens(200'000);
  source.read(0, tokens);
  double pairs = 0, followed = 0;
  for (size_t i = 1; i < tokens.size(); ++i) {
    if (tokens[i] == 49 || tokens[i - 1] == 49) continue;  // an end or a beginning
    ++pairs;
    followed += tokens[i] == source.successor(tokens[i - 1]);
  }
  EXPECT_NEAR(followed / pairs, 0.9 + 0.1 / 49, 0.005);
}

}  // namespace
}  // namespace switchyard
