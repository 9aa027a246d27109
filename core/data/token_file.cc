#include "core/data/token_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <vector>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/base/log.h"

namespace switchyard {

std::shared_ptr<const TokenFile> TokenFile::open(const std::string& prefix, int64_t vocab_size) {
  for (const char* suffix : {".bin", ".idx"}) {
    std::error_code unknown;  // left to whoever opens it
    if (std::filesystem::exists(prefix + suffix, unknown) || unknown) continue;
    throw DataError(fmt::format(
        "{0}{1}: there is no such file; a token file is the pair {0}.bin and {0}.idx, which "
        "`switchyard tokenize --out {0}` writes, and is named without the ending",
        prefix, suffix));
  }
  return std::shared_ptr<const TokenFile>(new TokenFile(prefix, vocab_size));
}

TokenFile::TokenFile(const std::string& prefix, int64_t vocab_size)
    : prefix_(prefix),
      vocab_size_(vocab_size),
      bin_(prefix + ".bin"),
      index_(prefix + ".idx", static_cast<int64_t>(bin_.size())) {
  SY_CHECK(vocab_size > 0 && vocab_size <= std::numeric_limits<int32_t>::max(),
           "vocabulary of {} for {}", vocab_size, prefix);
  if (const auto size = static_cast<int64_t>(bin_.size()); size > bytes_used())
    warn("{}: has {} bytes, the index describes {}; the rest is not used", bin_.path(), size,
         bytes_used());
}

int64_t TokenFile::document_at(int64_t token) const {
  SY_CHECK(token >= 0 && token < num_tokens(), "token {} of {} in {}", token, num_tokens(),
           prefix_);
  int64_t low = 0, high = num_documents();  // document_begin(low) <= token < document_begin(high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (document_begin(middle) <= token ? low : high) = middle;
  }
  return low;
}

void TokenFile::throw_bad_token(int64_t at, int64_t value) const {
  const int64_t document = document_at(at);
  throw DataError(
      fmt::format("{}: document {}, offset {}: token id {} is outside the vocabulary of "
                  "{}; was the data made with another tokenizer?",
                  prefix_, document, at - document_begin(document), value, vocab_size_));
}

// Checks before narrowing, so that no 64-bit id can wrap into the vocabulary.
template <typename Stored>
void TokenFile::widen(int64_t first, std::span<const std::byte> raw,
                      std::span<int32_t> tokens) const {
  for (size_t i = 0; i < tokens.size(); ++i) {
    Stored value;
    std::memcpy(&value, raw.data() + i * sizeof value, sizeof value);
    const auto wide = static_cast<int64_t>(value);
    if (wide < 0 || wide >= vocab_size_) throw_bad_token(first + static_cast<int64_t>(i), wide);
    tokens[i] = static_cast<int32_t>(wide);
  }
}

void TokenFile::read_bytes(int64_t offset, std::span<std::byte> bytes) const {
  const size_t got = bin_.read_at(bytes, static_cast<uint64_t>(offset));
  if (got < bytes.size())
    throw DataError(
        fmt::format("{}: ends at byte {}, but the index describes {} bytes; do not "
                    "change a data file while a run reads it",
                    bin_.path(), offset + static_cast<int64_t>(got), bytes_used()));
}

void TokenFile::read(int64_t first, std::span<int32_t> tokens) const {
  const auto count = static_cast<int64_t>(tokens.size());
  SY_CHECK(first >= 0 && count <= num_tokens() - first, "tokens {} + {} of {} in {}", first, count,
           num_tokens(), prefix_);
  std::vector<std::byte> raw(static_cast<size_t>(count * size_of(type())));
  read_bytes(first * size_of(type()), raw);
  switch (type()) {
    case TokenType::kUInt8:
      return widen<uint8_t>(first, raw, tokens);
    case TokenType::kUInt16:
      return widen<uint16_t>(first, raw, tokens);
    case TokenType::kInt32:
      return widen<int32_t>(first, raw, tokens);
    case TokenType::kInt64:
      return widen<int64_t>(first, raw, tokens);
  }
}

void TokenFile::segments(int64_t first, std::span<int32_t> numbers) const {
  if (numbers.empty()) return;
  int64_t document = document_at(first);
  int64_t end = document_begin(document + 1);
  int32_t number = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const int64_t token = first + static_cast<int64_t>(i);
    if (token >= end) {  // over any empty documents too
      while (token >= end) end = document_begin(++document + 1);
      ++number;
    }
    numbers[i] = number;
  }
}

uint64_t TokenFile::fingerprint() const {
  const int64_t edge = std::min<int64_t>(bytes_used(), 4096);
  std::string bytes(static_cast<size_t>(2 * edge), '\0');
  const auto raw = std::as_writable_bytes(std::span(bytes));
  read_bytes(0, raw.first(static_cast<size_t>(edge)));
  read_bytes(bytes_used() - edge, raw.last(static_cast<size_t>(edge)));
  Fingerprint print;
  print.add(static_cast<uint64_t>(num_tokens())).add(static_cast<uint64_t>(num_documents()));
  return print.add(static_cast<uint64_t>(type())).add(bytes).value();
}

}  // namespace switchyard
