#pragma once
// One stream of tokens cut into documents: what the sampler draws from.

#include <cstdint>
#include <span>
#include <string>

namespace switchyard {

// Const members are thread-safe.
class TokenSource {
 public:
  virtual ~TokenSource() = default;

  virtual std::string name() const = 0;
  virtual int64_t num_tokens() const = 0;
  // Tokens that samples are cut from, so many at a time. The last token of a text is only a target.
  virtual int64_t num_sampled() const { return num_tokens() - 1; }

  // Tokens [first, first + tokens.size()) of the stream.
  virtual void read(int64_t first, std::span<int32_t> tokens) const = 0;

  // The document of each of the same tokens, counted from 0 at `first` and up by one at each
  // boundary; empty documents do not count.
  virtual void segments(int64_t first, std::span<int32_t> numbers) const = 0;

  // Changes when the data do; see core/base/fingerprint.h.
  virtual uint64_t fingerprint() const = 0;
};

}  // namespace switchyard
