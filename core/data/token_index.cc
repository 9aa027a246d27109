#include "core/data/token_index.h"

#include <algorithm>
#include <array>

#include "core/base/errors.h"
#include "core/io/bytes.h"
#include "core/io/file.h"

namespace switchyard {
namespace {

constexpr size_t kHeaderBytes = 34;

struct Header {
  TokenType type;
  uint64_t sequences, boundaries;
};

void check_magic(const std::string& path, std::span<const std::byte> bytes) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()),
                               std::min(bytes.size(), kTokenIndexMagic.size()));
  if (start.starts_with("TNTIDX"))
    throw DataError(
        fmt::format("{}: this is the older fairseq index (TNTIDX), expected Megatron's MMIDIDX; "
                    "tokenize the text again",
                    path));
  if (start.size() == kTokenIndexMagic.size() && start != kTokenIndexMagic)
    throw DataError(
        fmt::format("{}: magic at offset 0: expected MMIDIDX; not a token index", path));
}

Header read_header(const InputFile& file) {
  std::array<std::byte, kHeaderBytes> bytes;
  const auto read = std::span(bytes).first(file.read_at(bytes, 0));
  check_magic(file.path(), read);
  ByteReader reader(read, file.path(), raise<DataError>);
  reader.take(kTokenIndexMagic.size(), "header");
  if (const auto version = reader.read<uint64_t>("header: version"); version != 1)
    reader.reject("header: version", version, "1");
  const auto type = static_cast<TokenType>(reader.read<uint8_t>("header: token type"));
  if (size_of(type) == 0)
    reader.reject("header: token type", static_cast<int>(type),
                  "1 (uint8), 4 (int32), 5 (int64) or 8 (uint16)");
  const auto sequences = reader.read<uint64_t>("header: sequence count");
  const auto boundaries = reader.read<uint64_t>("header: document count");
  if (boundaries == 0) reader.reject("header: document count", boundaries, "at least 1");
  return {type, sequences, boundaries};
}

// The numbers of one section in order, through a buffer.
template <typename T>
class Section {
 public:
  // Begins at `offset`, which it moves to its own end.
  Section(const InputFile& file, uint64_t count, const char* name, uint64_t& offset)
      : file_(file), name_(name), begin_(offset), left_(count) {
    const uint64_t size = file.size();
    if (offset > size || count > (size - offset) / sizeof(T))
      throw DataError(
          fmt::format("{}: {} at offset {}: expected {} x {} bytes, but the file has {} bytes; it "
                      "is truncated or damaged",
                      file.path(), name, offset, count, sizeof(T), size));
    offset += count * sizeof(T);
  }

  T next() {
    if (at_ == buffer_.size()) fill();
    return buffer_[at_++];
  }

  // The section, and the offset of its entry `index`.
  std::string entry(uint64_t index, const char* what) const {
    return fmt::format("{}: {}: {} {} (offset {})", file_.path(), name_, what, index,
                       begin_ + index * sizeof(T));
  }

 private:
  static constexpr uint64_t kBufferNumbers = 1 << 16;

  void fill() {
    const uint64_t offset = begin_ + done_ * sizeof(T);
    buffer_.resize(static_cast<size_t>(std::min(kBufferNumbers, left_)));
    const size_t got = file_.read_at(std::as_writable_bytes(std::span(buffer_)), offset);
    if (got < buffer_.size() * sizeof(T))
      throw DataError(
          fmt::format("{}: {} ends at byte {}, where it did not when it was opened; do not change "
                      "a data file while a run reads it",
                      file_.path(), name_, offset + got));
    done_ += buffer_.size();
    left_ -= buffer_.size();
    at_ = 0;
  }

  const InputFile& file_;
  const char* name_;
  uint64_t begin_, left_, done_ = 0;
  std::vector<T> buffer_;
  size_t at_ = 0;
};

// The first sequences of documents, from 0 to the number of sequences, never down.
class Boundaries {
 public:
  Boundaries(const InputFile& file, const Header& header, uint64_t& offset)
      : section_(file, header.boundaries, "documents section", offset),
        last_(header.boundaries - 1),
        sequences_(static_cast<int64_t>(header.sequences)) {
    read();
  }

  // True once for each boundary at this sequence, if asked in ascending order.
  bool take(int64_t sequence) {
    if (number_ > last_ || value_ != sequence) return false;
    if (++number_ <= last_) read();
    return true;
  }

 private:
  void read() {
    const int64_t low = number_ == last_ ? sequences_ : value_,
                  high = number_ == 0 ? 0 : sequences_;
    value_ = section_.next();
    if (value_ < low || value_ > high)
      throw DataError(fmt::format("{} is sequence {}, expected {} to {}",
                                  section_.entry(number_, "boundary"), value_, low, high));
  }

  Section<int64_t> section_;
  uint64_t last_;
  int64_t sequences_;
  uint64_t number_ = 0;
  int64_t value_ = 0;
};

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

// Sequences must fill the .bin from byte 0 without a gap, as every writer of this format lays them
// out: then the concatenated stream is the .bin itself.
TokenIndex::TokenIndex(const std::string& path, int64_t bin_bytes) {
  const InputFile file(path);
  const Header header = read_header(file);
  type_ = header.type;
  uint64_t offset = kHeaderBytes;
  Section<int32_t> lengths(file, header.sequences, "lengths section", offset);
  Section<int64_t> pointers(file, header.sequences, "pointers section", offset);
  Boundaries boundaries(file, header, offset);
  if (const uint64_t rest = file.size() - offset; rest != 0 && rest != header.sequences)
    throw DataError(
        fmt::format("{}: expected {} bytes ({} with a modes section), found {}; the index is "
                    "damaged, write it again",
                    path, offset, offset + header.sequences, offset + rest));
  low_.reserve(header.boundaries);
  int64_t end = 0;  // at most bin_bytes, so that adding one sequence cannot wrap
  for (uint64_t i = 0; i < header.sequences; ++i) {
    while (boundaries.take(static_cast<int64_t>(i))) add_document(end / size_of(type_));
    const int64_t length = lengths.next(), pointer = pointers.next();
    if (length < 0)
      throw DataError(fmt::format("{} has {} tokens", lengths.entry(i, "sequence"), length));
    if (pointer != end)
      throw DataError(fmt::format("{} starts at byte {}, expected {}, where the one before ends",
                                  pointers.entry(i, "sequence"), pointer, end));
    end += length * size_of(type_);
    if (end > bin_bytes)
      throw DataError(
          fmt::format("{}: sequence {} ends at byte {} of the .bin, which has {} bytes; was a copy "
                      "interrupted?",
                      path, i, end, bin_bytes));
  }
  num_tokens_ = end / size_of(type_);
  while (boundaries.take(static_cast<int64_t>(header.sequences))) add_document(num_tokens_);
}

void TokenIndex::add_document(int64_t begin) {
  while (static_cast<int64_t>(carries_.size()) < begin >> 32)
    carries_.push_back(static_cast<int64_t>(low_.size()));
  low_.push_back(static_cast<uint32_t>(begin));
}

int64_t TokenIndex::document_begin(int64_t document) const {
  const auto high = std::ranges::upper_bound(carries_, document) - carries_.begin();
  return high << 32 | low_[static_cast<size_t>(document)];
}

}  // namespace switchyard
