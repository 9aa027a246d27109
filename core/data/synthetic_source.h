#pragma once
// Generated tokens for tests, debug presets and benchmarks: no files, any size, and learnable.

#include <cstdint>
#include <vector>

#include "core/base/random.h"
#include "core/data/token_source.h"

namespace switchyard {

// Documents of a noisy bigram walk: with probability 0.9 a token follows from the one before by a
// fixed random permutation, else it is uniform. The last id, vocab_size - 1, ends every document.
//
// Blocks of kBlock tokens hold two documents, cut at random, so that any token is found by walking
// at most one block: a pure function of (seed, position).
class SyntheticSource final : public TokenSource {
 public:
  static constexpr int64_t kBlock = 128;
  static constexpr float kNoise = 0.1f;

  // Tokens [first_token, first_token + num_tokens) of the seed's endless walk, first_token rounded
  // up to a whole block. Requires vocab_size >= 4.
  SyntheticSource(int64_t num_tokens, int32_t vocab_size, uint64_t seed, int64_t first_token = 0);

  std::string name() const override { return "synthetic"; }
  int64_t num_tokens() const override { return num_tokens_; }
  void read(int64_t first, std::span<int32_t> tokens) const override;
  void segments(int64_t first, std::span<int32_t> numbers) const override;
  uint64_t fingerprint() const override;

  // The likeliest token after one that does not end a document.
  int32_t successor(int32_t token) const { return successor_[static_cast<size_t>(token)]; }

 private:
  int64_t first_document_size(int64_t block) const;  // 2 .. kBlock - 2
  void fill_block(int64_t block, std::span<int32_t> tokens) const;

  int64_t num_tokens_;
  int32_t vocab_size_;
  uint64_t seed_;
  int64_t origin_;  // of the stream in the walk
  Random choice_, noise_;
  std::vector<int32_t> successor_;
};

}  // namespace switchyard
