#include "core/data/token_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <vector>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/base/log.h"
#include "core/io/checksum.h"

namespace switchyard {
namespace {

constexpr int64_t kEdgeBytes = 4096;
constexpr int64_t kSampleBytes = 8192, kSamples = 512;

uint32_t checksum_of(const std::string& path) {
  constexpr size_t kPieceBytes = 1 << 20;
  InputFile file(path);
  std::vector<std::byte> piece(kPieceBytes);
  uint32_t checksum = 0;
  while (const size_t count = file.read(piece))
    checksum = crc32c(std::span(piece).first(count), checksum);
  return checksum;
}

}  // namespace

void require_token_file(const std::string& prefix) {
  for (const char* suffix : {".bin", ".idx"}) {
    std::error_code unknown;  // left to whoever opens it
    const bool exists = std::filesystem::exists(prefix + suffix, unknown);
    if (unknown || (exists && std::filesystem::is_regular_file(prefix + suffix, unknown))) continue;
    throw DataError(
        fmt::format("{0}{1}: {2}; a token file is the pair {0}.bin and {0}.idx, which `switchyard "
                    "tokenize --out {0}` writes, and is named without the ending",
                    prefix, suffix, exists ? "this is no regular file" : "there is no such file"));
  }
}

std::shared_ptr<const TokenFile> TokenFile::open(const std::string& prefix, int64_t vocab_size) {
  require_token_file(prefix);
  return std::shared_ptr<const TokenFile>(new TokenFile(prefix, vocab_size));
}

TokenFile::TokenFile(const std::string& prefix, int64_t vocab_size)
    : prefix_(prefix),
      vocab_size_(vocab_size),
      bin_(prefix + ".bin"),
      index_(prefix + ".idx", static_cast<int64_t>(bin_.size())),
      meta_(read_token_file_meta(prefix)) {
  SY_CHECK(vocab_size > 0 && vocab_size <= std::numeric_limits<int32_t>::max(),
           "vocabulary of {} for {}", vocab_size, prefix);
  if (const auto size = static_cast<int64_t>(bin_.size()); size > bytes_used())
    warn("{}: has {} bytes, the index describes {}; the rest is not used", bin_.path(), size,
         bytes_used());
  if (!meta_) return;
  check_meta();
  is_checked_ = std::make_unique<std::atomic<bool>[]>(meta_->bin_crc32c.size());
}

void TokenFile::check_meta() const {
  const auto check = [&](const std::string& path, const char* what, int64_t found,
                         int64_t expected) {
    if (found != expected)
      throw DataError(fmt::format(
          "{}: its {} is {}, but was {} when it was written, as {} says; it is damaged, or not the "
          "file that was written: copy all three files, or tokenize again",
          path, what, found, expected, token_file_meta_path(prefix_)));
  };
  check(bin_.path(), "size", static_cast<int64_t>(bin_.size()), meta_->bin_bytes);
  check(prefix_ + ".idx", "checksum", checksum_of(prefix_ + ".idx"), meta_->idx_crc32c);
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
      fmt::format("{}: document {}, offset {}: token id {} is outside the vocabulary of {}; was "
                  "the data made with another tokenizer?",
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

// All blocks that hold a part of the bytes. Two threads may check the same block.
void TokenFile::check_blocks(int64_t begin, int64_t end) const {
  const int64_t block_bytes = meta_->block_bytes;
  std::vector<std::byte> bytes;
  for (int64_t first = begin / block_bytes * block_bytes; first < end; first += block_bytes) {
    const auto block = static_cast<size_t>(first / block_bytes);
    if (is_checked_[block].load(std::memory_order_relaxed)) continue;
    bytes.resize(static_cast<size_t>(std::min(block_bytes, meta_->bin_bytes - first)));
    read_raw(first, bytes);
    if (crc32c(bytes) != meta_->bin_crc32c[block])
      throw DataError(
          fmt::format("{}: bytes {} to {} are not those that were written, by the checksum in {}; "
                      "the file is damaged: copy it again, or tokenize the text again",
                      bin_.path(), first, first + static_cast<int64_t>(bytes.size()) - 1,
                      token_file_meta_path(prefix_)));
    is_checked_[block].store(true, std::memory_order_relaxed);
  }
}

void TokenFile::read_bytes(int64_t offset, std::span<std::byte> bytes) const {
  if (meta_) check_blocks(offset, offset + static_cast<int64_t>(bytes.size()));
  read_raw(offset, bytes);
}

void TokenFile::read_raw(int64_t offset, std::span<std::byte> bytes) const {
  const size_t got = bin_.read_at(bytes, static_cast<uint64_t>(offset));
  if (got < bytes.size())
    throw DataError(
        fmt::format("{}: ends at byte {}, but the index describes {} bytes; do not change a data "
                    "file while a run reads it",
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
  Fingerprint print;
  print.add(fingerprint_of_edges());
  std::vector<std::byte> sample(static_cast<size_t>(std::min(kSampleBytes, bytes_used())));
  const int64_t last = bytes_used() - static_cast<int64_t>(sample.size());
  const int64_t samples = std::min(kSamples, last / kSampleBytes + 2);  // the last two may overlap
  for (int64_t i = 0; i < samples; ++i) {
    // In floating point, as the product may be large; the same everywhere.
    const double share = static_cast<double>(i) / static_cast<double>(samples - 1);
    read_raw(static_cast<int64_t>(share * static_cast<double>(last)), sample);
    print.add(crc32c(sample));
  }
  return print.value();
}

uint64_t TokenFile::fingerprint_of_edges() const {
  const int64_t edge = std::min(bytes_used(), kEdgeBytes);
  std::string bytes(static_cast<size_t>(2 * edge), '\0');
  const auto raw = std::as_writable_bytes(std::span(bytes));
  read_raw(0, raw.first(static_cast<size_t>(edge)));
  read_raw(bytes_used() - edge, raw.last(static_cast<size_t>(edge)));
  Fingerprint print;
  print.add(static_cast<uint64_t>(num_tokens())).add(static_cast<uint64_t>(num_documents()));
  return print.add(static_cast<uint64_t>(type())).add(bytes).value();
}

}  // namespace switchyard
