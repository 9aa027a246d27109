#include "core/data/domain_bigrams.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"

namespace switchyard {
namespace {

constexpr int32_t kSuccessors = DomainBigrams::kSuccessors;

// What a draw is for: the step of Stream::kSynthetic, after those of SyntheticSource.
enum Draws : uint64_t { kDomain = 5, kFirstWord = 6, kRank = 7, kTable = 8 };

// Probability of each rank, and of all up to it.
struct Ranks {
  std::array<double, kSuccessors> probability, up_to;
};

constexpr Ranks kRanks = [] {
  Ranks ranks{};
  double sum = 0;
  for (int32_t rank = 0; rank < kSuccessors; ++rank) sum += 1.0 / (rank + 1);
  double up_to = 0;
  for (size_t rank = 0; rank < kSuccessors; ++rank) {
    ranks.probability[rank] = 1.0 / static_cast<double>(rank + 1) / sum;
    ranks.up_to[rank] = up_to += ranks.probability[rank];
  }
  return ranks;
}();

size_t rank_at(float uniform) {
  const auto above = std::ranges::upper_bound(kRanks.up_to, static_cast<double>(uniform));
  return std::min<size_t>(static_cast<size_t>(above - kRanks.up_to.begin()), kSuccessors - 1);
}

// For every row the first kSuccessors of a random order of the words.
std::vector<int32_t> draw_table(const DomainLanguage& language) {
  const Random draw(language.seed, Stream::kSynthetic, kTable);
  std::vector<int32_t> table, words(static_cast<size_t>(language.num_words));
  const int64_t rows = int64_t{language.num_domains} * language.num_words;
  for (int64_t row = 0; row < rows; ++row) {
    std::iota(words.begin(), words.end(), 0);
    for (size_t i = 0; i < kSuccessors; ++i) {
      const uint64_t index = static_cast<uint64_t>(row) * kSuccessors + i;
      std::swap(words[i], words[i + draw.bits64(index) % (words.size() - i)]);
    }
    table.insert(table.end(), words.begin(), words.begin() + kSuccessors);
  }
  return table;
}

class DomainRows final : public BatchMaker {
 public:
  explicit DomainRows(int64_t length)
      : BatchMaker({.sample_tokens = length + 1, .length = length}) {}

  void fill(Batch& batch, int64_t row, const TokenSource& source, int64_t first,
            int64_t) const override {
    fill_row(batch, row, source, first);
    batch.targets[static_cast<size_t>(row * batch.length)] = kNoTarget;
  }
};

}  // namespace

DomainBigrams::DomainBigrams(const DomainLanguage& language, int64_t sequence_tokens,
                             int64_t num_tokens, int64_t first_token)
    : language_(language),
      sequence_tokens_(sequence_tokens),
      num_sequences_(num_tokens / sequence_tokens),
      origin_((first_token + sequence_tokens - 1) / sequence_tokens),
      domain_(language.seed, Stream::kSynthetic, kDomain),
      first_word_(language.seed, Stream::kSynthetic, kFirstWord),
      rank_(language.seed, Stream::kSynthetic, kRank) {
  SY_CHECK(language.num_words >= kSuccessors && language.num_domains > 0 && sequence_tokens >= 2,
           "{} words, {} domains, sequences of {}", language.num_words, language.num_domains,
           sequence_tokens);
  successors_ = draw_table(language);
}

std::span<const int32_t> DomainBigrams::successors(int32_t domain, int32_t word) const {
  const int64_t row = int64_t{domain} * language_.num_words + word;
  return std::span(successors_).subspan(static_cast<size_t>(row * kSuccessors), kSuccessors);
}

void DomainBigrams::fill_sequence(int64_t sequence, std::span<int32_t> tokens) const {
  const auto number = static_cast<uint64_t>(sequence);
  const auto domain =
      static_cast<int32_t>(domain_.bits64(number) % static_cast<uint64_t>(language_.num_domains));
  tokens[0] = language_.num_words + domain;
  tokens[1] =
      static_cast<int32_t>(first_word_.bits64(number) % static_cast<uint64_t>(language_.num_words));
  for (size_t i = 2; i < tokens.size(); ++i) {
    const float draw = rank_.uniform(number * tokens.size() + i);
    tokens[i] = successors(domain, tokens[i - 1])[rank_at(draw)];
  }
}

void DomainBigrams::read(int64_t first, std::span<int32_t> tokens) const {
  std::vector<int32_t> sequence(static_cast<size_t>(sequence_tokens_));
  int64_t filled = -1;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t position = first + static_cast<int64_t>(i), number = position / sequence_tokens_;
    if (number != filled) fill_sequence(origin_ + (filled = number), sequence);
    tokens[i] = sequence[static_cast<size_t>(position % sequence_tokens_)];
  }
}

void DomainBigrams::segments(int64_t first, std::span<int32_t> numbers) const {
  const int64_t within = first % sequence_tokens_;
  for (size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = static_cast<int32_t>((within + static_cast<int64_t>(i)) / sequence_tokens_);
}

uint64_t DomainBigrams::fingerprint() const {
  Fingerprint print;
  print.add("domain bigrams").add(static_cast<uint64_t>(num_sequences_));
  for (const int64_t number :
       {int64_t{language_.num_words}, int64_t{language_.num_domains}, sequence_tokens_, origin_})
    print.add(static_cast<uint64_t>(number));
  return print.add(language_.seed).value();
}

double DomainBigrams::probability(int32_t domain, int32_t word, int32_t next) const {
  const auto row = successors(domain, word);
  const auto found = std::ranges::find(row, next);
  return found == row.end() ? 0 : kRanks.probability[static_cast<size_t>(found - row.begin())];
}

std::shared_ptr<const BatchMaker> domain_batches(int64_t length) {
  return std::make_shared<DomainRows>(length);
}

}  // namespace switchyard
