#include "core/data/token_index.h"

#include <algorithm>

#include "core/base/errors.h"

namespace switchyard {
namespace {

constexpr size_t kHeaderBytes = 34;

void check_magic(const std::string& path, std::span<const std::byte> bytes) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()),
                               std::min(bytes.size(), kTokenIndexMagic.size()));
  if (start.starts_with("TNTIDX"))
    throw DataError(
        fmt::format("{}: this is the older fairseq index (TNTIDX), expected Megatron's "
                    "MMIDIDX; tokenize the text again",
                    path));
  if (start.size() == kTokenIndexMagic.size() && start != kTokenIndexMagic)
    throw DataError(
        fmt::format("{}: magic at offset 0: expected MMIDIDX; not a token index", path));
}

}  // namespace

int64_t size_of(TokenType type) {
  switch (type) {
    case TokenType::kUInt8:
      return 1;
    case TokenType::kUInt16:
      return 2;
    case TokenType::kInt32:
      return 4;
    case TokenType::kInt64:
      return 8;
  }
  return 0;
}

TokenIndex::TokenIndex(const std::string& path, int64_t bin_bytes)
    : file_(path, MappedFile::Access::kRandom) {
  check_magic(path, file_.bytes());
  ByteReader reader(file_.bytes(), path, raise<DataError>);
  read_sections(reader);
  check_sequences(bin_bytes);
  check_documents();
}

void TokenIndex::read_sections(ByteReader& reader) {
  reader.take(kTokenIndexMagic.size(), "header");
  if (const auto version = reader.read<uint64_t>("header: version"); version != 1)
    reader.reject("header: version", version, "1");
  type_ = static_cast<TokenType>(reader.read<uint8_t>("header: token type"));
  if (size_of(type_) == 0)
    reader.reject("header: token type", static_cast<int>(type_),
                  "1 (uint8), 4 (int32), 5 (int64) or 8 (uint16)");
  const auto sequences = reader.read<uint64_t>("header: sequence count");
  const auto boundaries = reader.read<uint64_t>("header: document count");
  if (boundaries == 0) reader.reject("header: document count", boundaries, "at least 1");
  lengths_ = reader.read_array<int32_t>(sequences, "lengths section");
  pointers_ = reader.read_array<int64_t>(sequences, "pointers section");
  first_sequences_ = reader.read_array<int64_t>(boundaries, "documents section");
  if (const uint64_t rest = reader.remaining(); rest != 0 && rest != sequences)
    throw DataError(fmt::format(
        "{}: expected {} bytes ({} with a modes section), found {}; the "
        "index is damaged, write it again",
        file_.path(), reader.offset(), reader.offset() + sequences, file_.bytes().size()));
}

// Sequences must fill the .bin from byte 0 without a gap, as every writer of this format lays them
// out: then the concatenated stream is the .bin itself.
void TokenIndex::check_sequences(int64_t bin_bytes) {
  int64_t end = 0;  // at most bin_bytes, so that adding one sequence cannot wrap
  for (size_t i = 0; i < lengths_.size(); ++i) {
    if (lengths_[i] < 0)
      throw DataError(fmt::format("{}: lengths section: sequence {} (offset {}) has {} tokens",
                                  file_.path(), i, kHeaderBytes + 4 * i, lengths_[i]));
    if (pointers_[i] != end)
      throw DataError(fmt::format(
          "{}: pointers section: sequence {} (offset {}) starts at byte {}, "
          "expected {}, where the one before ends",
          file_.path(), i, kHeaderBytes + 4 * lengths_.size() + 8 * i, pointers_[i], end));
    end += lengths_[i] * size_of(type_);
    if (end > bin_bytes)
      throw DataError(
          fmt::format("{}: sequence {} ends at byte {} of the .bin, which has {} bytes; "
                      "was a copy interrupted?",
                      file_.path(), i, end, bin_bytes));
  }
  num_tokens_ = end / size_of(type_);
}

// From 0 to the number of sequences, never down.
void TokenIndex::check_documents() const {
  const int64_t last = num_documents();
  int64_t previous = 0;
  for (int64_t i = 0; i <= last; ++i) {
    const int64_t value = first_sequences_[static_cast<size_t>(i)];
    const int64_t low = i == last ? num_sequences() : previous;
    const int64_t high = i == 0 ? 0 : num_sequences();
    if (value < low || value > high)
      throw DataError(fmt::format(
          "{}: documents section: boundary {} (offset {}) is sequence {}, "
          "expected {} to {}",
          file_.path(), i, kHeaderBytes + 12 * lengths_.size() + 8 * i, value, low, high));
    previous = value;
  }
}

int64_t TokenIndex::document_begin(int64_t document) const {
  const int64_t sequence = first_sequences_[static_cast<size_t>(document)];
  if (sequence == num_sequences()) return num_tokens_;
  return pointers_[static_cast<size_t>(sequence)] / size_of(type_);
}

}  // namespace switchyard
