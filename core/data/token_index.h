#pragma once
// The `.idx` half of a Megatron token file (little-endian):
//
//   9 bytes  magic "MMIDIDX\0\0"        4 x S  int32 tokens per sequence
//   u64      version, 1                 8 x S  int64 byte offset of each sequence in the .bin
//   u8       token type                 8 x D  int64 first sequence of each document, then S
//   u64      S, sequences               1 x S  int8 modes, multimodal files only (not read)
//   u64      D, documents + 1

#include <cstdint>
#include <string>
#include <string_view>

#include "core/io/bytes.h"
#include "core/io/file.h"

namespace switchyard {

// How one token is stored; the codes are the format's.
enum class TokenType : uint8_t { kUInt8 = 1, kInt32 = 4, kInt64 = 5, kUInt16 = 8 };

int64_t size_of(TokenType type);

inline constexpr std::string_view kTokenIndexMagic{"MMIDIDX\0\0", 9};

// A validated index: every value that a member returns lies within the files. Nothing is allocated
// from a count in the file.
class TokenIndex {
 public:
  // `bin_bytes`: size of the matching .bin. DataError names the section, the entry and the offset.
  TokenIndex(const std::string& path, int64_t bin_bytes);

  TokenType type() const { return type_; }
  int64_t num_sequences() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t num_documents() const { return static_cast<int64_t>(first_sequences_.size()) - 1; }
  int64_t num_tokens() const { return num_tokens_; }

  // First token of a document in the concatenated stream; num_tokens() for num_documents().
  int64_t document_begin(int64_t document) const;

 private:
  void read_sections(ByteReader& reader);
  void check_sequences(int64_t bin_bytes);
  void check_documents() const;

  MappedFile file_;
  TokenType type_{};
  // Sections of file_: what they hold is checked before the constructor returns.
  UnalignedArray<int32_t> lengths_;
  UnalignedArray<int64_t> pointers_;
  UnalignedArray<int64_t> first_sequences_;
  int64_t num_tokens_ = 0;
};

}  // namespace switchyard
