#include "core/data/synthetic_source.h"

#include <algorithm>
#include <array>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/data/sampler.h"

namespace switchyard {

SyntheticSource::SyntheticSource(int64_t num_tokens, int32_t vocab_size, uint64_t seed,
                                 int64_t first_token)
    : num_tokens_(num_tokens),
      vocab_size_(vocab_size),
      seed_(seed),
      origin_((first_token + kBlock - 1) / kBlock * kBlock),
      choice_(seed, Stream::kSynthetic, 1),
      noise_(seed, Stream::kSynthetic, 2) {
  SY_CHECK(vocab_size >= 4, "a vocabulary of {} is too small to generate from", vocab_size);
  const Random order(seed, Stream::kSynthetic, 3);
  const auto content = static_cast<uint64_t>(vocab_size) - 1;
  for (uint64_t token = 0; token < content; ++token)
    successor_.push_back(static_cast<int32_t>(permute(token, content, order)));
}

int64_t SyntheticSource::first_document_size(int64_t block) const {
  const Random cut(seed_, Stream::kSynthetic, 4);
  return 2 + static_cast<int64_t>(cut.bits64(static_cast<uint64_t>(block)) % (kBlock - 3));
}

// Draws are indexed by the position in the stream, so a block does not depend on how it is reached.
void SyntheticSource::fill_block(int64_t block, std::span<int32_t> tokens) const {
  const int64_t cut = first_document_size(block);
  for (int64_t i = 0; i < kBlock; ++i) {
    const auto position = static_cast<uint64_t>(block * kBlock + i);
    const bool begins = i == 0 || i == cut, ends = i == cut - 1 || i == kBlock - 1;
    int32_t& token = tokens[static_cast<size_t>(i)];
    if (ends)
      token = vocab_size_ - 1;
    else if (begins || noise_.uniform(position) < kNoise)
      token =
          static_cast<int32_t>(choice_.bits64(position) % (static_cast<uint64_t>(vocab_size_) - 1));
    else
      token = successor(tokens[static_cast<size_t>(i - 1)]);
  }
}

void SyntheticSource::read(int64_t first, std::span<int32_t> tokens) const {
  std::array<int32_t, kBlock> block;
  int64_t filled = -1;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t position = origin_ + first + static_cast<int64_t>(i);
    if (position / kBlock != filled) fill_block(filled = position / kBlock, block);
    tokens[i] = block[static_cast<size_t>(position % kBlock)];
  }
}

void SyntheticSource::segments(int64_t first, std::span<int32_t> numbers) const {
  int64_t base = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const int64_t position = origin_ + first + static_cast<int64_t>(i), block = position / kBlock;
    const int64_t document = 2 * block + (position % kBlock >= first_document_size(block) ? 1 : 0);
    if (i == 0) base = document;
    numbers[i] = static_cast<int32_t>(document - base);
  }
}

uint64_t SyntheticSource::fingerprint() const {
  Fingerprint print;
  print.add("synthetic").add(static_cast<uint64_t>(num_tokens_));
  return print.add(static_cast<uint64_t>(vocab_size_))
      .add(seed_)
      .add(static_cast<uint64_t>(origin_))
      .value();
}

}  // namespace switchyard
