#include "core/data/domain_bigrams.h"

#include <cmath>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/data/evaluation.h"

namespace switchyard {
namespace {

constexpr int32_t kWords = 64, kDomains = 16;
constexpr int64_t kLength = 65;
const DomainLanguage kLanguage{kWords, kDomains, 3};

std::vector<int32_t> all_of(const TokenSource& source) {
  std::vector<int32_t> tokens(static_cast<size_t>(source.num_tokens()));
  source.read(0, tokens);
  return tokens;
}

// The language's definition once more: entropy of Zipf's distribution over eight ranks, in nats.
double floor_entropy() {
  double sum = 0, entropy = 0;
  for (int rank = 1; rank <= 8; ++rank) sum += 1.0 / rank;
  for (int rank = 1; rank <= 8; ++rank) entropy += std::log(rank * sum) / (rank * sum);
  return entropy;
}

TEST(DomainBigrams, CostsItsEntropyAndNoLess) {
  EXPECT_NEAR(floor_entropy(), 1.815848, 1e-6);
  const DomainBigrams source(kLanguage, kLength, 4000 * kLength);
  const auto tokens = all_of(source);
  double loss = 0, count = 0;
  for (size_t i = 2; i < tokens.size(); ++i) {
    if (i % kLength < 2) continue;
    const int32_t domain = tokens[i - i % kLength] - kWords;
    const double p = source.probability(domain, tokens[i - 1], tokens[i]);
    ASSERT_GT(p, 0) << i;
    loss -= std::log(p);
    ++count;
  }
  EXPECT_NEAR(loss / count, floor_entropy(), 0.006);  // about four standard errors of 252000 draws
}

TEST(DomainBigrams, GivesEveryWordOfADomainEightDistinctSuccessors) {
  const DomainBigrams source(kLanguage, kLength, kLength);
  std::set<std::vector<int32_t>> rows;
  for (int32_t domain = 0; domain < kDomains; ++domain) {
    for (int32_t word = 0; word < kWords; ++word) {
      std::vector<int32_t> row;
      double sum = 0;
      for (int32_t next = 0; next < kWords; ++next) {
        const double p = source.probability(domain, word, next);
        sum += p;
        if (p > 0) row.push_back(next);
      }
      EXPECT_EQ(row.size(), 8u);
      EXPECT_NEAR(sum, 1, 1e-12);
      rows.insert(row);
    }
  }
  EXPECT_EQ(rows.size(), size_t{kDomains} * kWords);  // of 4 billion sets
}

TEST(DomainBigrams, BeginsEverySequenceWithItsDomainAndAWord) {
  const DomainBigrams source(kLanguage, kLength, 3200 * kLength);
  const auto tokens = all_of(source);
  std::map<int32_t, int> domains, words;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i % kLength == 0)
      ++domains[tokens[i] - kWords];
    else
      ASSERT_LT(tokens[i], kWords) << i;
    if (i % kLength == 1) ++words[tokens[i]];
  }
  ASSERT_EQ(domains.size(), size_t{kDomains});
  ASSERT_EQ(words.size(), size_t{kWords});
  for (const auto& [domain, count] : domains) EXPECT_NEAR(count, 200, 70) << domain;
}

TEST(DomainBigrams, IsAPureFunctionOfThePosition) {
  const DomainBigrams source(kLanguage, kLength, 100 * kLength);
  const auto all = all_of(source);
  std::vector<int32_t> part(200), segments(200);
  for (const int64_t first : {0, 1, 64, 65, 66, 6300}) {
    source.read(first, part);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + first)) << first;
    source.segments(first, segments);
    EXPECT_EQ(segments[0], 0);
    for (size_t i = 1; i < part.size(); ++i)
      ASSERT_EQ(segments[i] - segments[i - 1], part[i] >= kWords ? 1 : 0) << first << " " << i;
  }
}

TEST(DomainBigrams, ALaterPartIsTheSameSeriesFurtherOn) {
  const DomainBigrams whole(kLanguage, kLength, 100 * kLength);
  const DomainBigrams part(kLanguage, kLength, 10 * kLength, 40 * kLength - 1);
  const auto tokens = all_of(part), all = all_of(whole);
  EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), all.begin() + 40 * kLength));
  EXPECT_NE(part.fingerprint(), DomainBigrams(kLanguage, kLength, 10 * kLength).fingerprint());
  EXPECT_EQ(DomainBigrams(kLanguage, kLength, 10 * kLength + 64).num_tokens(), 10 * kLength);
}

TEST(DomainBigrams, ChangesWithItsSeed) {
  const DomainBigrams one(kLanguage, kLength, 10 * kLength);
  const DomainBigrams other({kWords, kDomains, 4}, kLength, 10 * kLength);
  EXPECT_NE(all_of(one), all_of(other));
  EXPECT_NE(one.fingerprint(), other.fingerprint());
}

TEST(DomainBigrams, RowsAreWholeSequencesWhoseFirstPredictionDoesNotCount) {
  const auto source = std::make_shared<DomainBigrams>(kLanguage, 9, 6 * 9);
  const auto maker = domain_batches(8);
  const EvalLoader loader(source,
                          {.length = maker->sample_tokens(), .batch_sequences = 2, .maker = maker});
  EXPECT_EQ(loader.num_sequences(), 6);
  const auto all = all_of(*source);
  for (int64_t i = 0; i < 3; ++i) {
    const Batch batch = loader.batch(i);
    for (int64_t row = 0; row < 2; ++row) {
      const auto sequence = std::span(all).subspan(static_cast<size_t>((2 * i + row) * 9), 9);
      for (size_t t = 0; t < 8; ++t) {
        const size_t at = static_cast<size_t>(row) * 8 + t;
        EXPECT_EQ(batch.tokens[at], sequence[t]);
        EXPECT_EQ(batch.targets[at], t == 0 ? kNoTarget : sequence[t + 1]);
        EXPECT_EQ(batch.documents[at], 0);
      }
    }
  }
}

}  // namespace
}  // namespace switchyard
