#pragma once
// Generated sequences whose next token depends on a domain as well: a task of which a model can
// learn as much as it has room for, and whose least loss is known.

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/random.h"
#include "core/data/batch_maker.h"

namespace switchyard {

// Words are the ids [0, num_words), domains the num_domains ids after them.
struct DomainLanguage {
  int32_t num_words = 0;
  int32_t num_domains = 0;
  uint64_t seed = 0;
};

// Sequences of a domain's id, a word drawn uniformly, and a walk: each word is followed by one of
// kSuccessors, by the table of the domain, with probability proportional to 1/rank. So every word
// from the third token on has the entropy of that distribution, 1.815848 nats, and no model's loss
// is lower. A table has num_domains * num_words rows to memorise.
//
// Sequence n is a pure function of the language and n.
class DomainBigrams final : public TokenSource {
 public:
  static constexpr int32_t kSuccessors = 8;

  // `num_tokens` of the language's endless series, from `first_token` on, both rounded to whole
  // sequences (down and up). Requires num_words >= kSuccessors and sequence_tokens >= 2.
  DomainBigrams(const DomainLanguage& language, int64_t sequence_tokens, int64_t num_tokens,
                int64_t first_token = 0);

  std::string name() const override { return "domain bigrams"; }
  int64_t num_tokens() const override { return num_sequences_ * sequence_tokens_; }
  int64_t num_sampled() const override { return num_tokens(); }
  void read(int64_t first, std::span<int32_t> tokens) const override;
  void segments(int64_t first, std::span<int32_t> numbers) const override;
  uint64_t fingerprint() const override;

  // The probability of word `next` after `word`. `domain` counts from 0.
  double probability(int32_t domain, int32_t word, int32_t next) const;

 private:
  void fill_sequence(int64_t sequence, std::span<int32_t> tokens) const;
  std::span<const int32_t> successors(int32_t domain, int32_t word) const;

  DomainLanguage language_;
  int64_t sequence_tokens_;
  int64_t num_sequences_;
  int64_t origin_;  // number of the first sequence in the series
  Random domain_, first_word_, rank_;
  std::vector<int32_t> successors_;  // [num_domains, num_words, kSuccessors], likeliest first
};

// Rows of `length` tokens from sequences of length + 1. What follows the domain's id cannot be
// known, and is no target.
std::shared_ptr<const BatchMaker> domain_batches(int64_t length);

}  // namespace switchyard
