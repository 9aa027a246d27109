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
#include <vector>

namespace switchyard {

// How one token is stored; the codes are the format's.
enum class TokenType : uint8_t { kUInt8 = 1, kInt32 = 4, kInt64 = 5, kUInt16 = 8 };

int64_t size_of(TokenType type);

inline constexpr std::string_view kTokenIndexMagic{"MMIDIDX\0\0", 9};

// Where documents begin: read once, checked and kept, so that whatever happens to the file later
// changes nothing. Four bytes of memory per document, 400 MB for 1e8 of them; nothing is allocated
// from a count that the file's size does not bear out.
class TokenIndex {
 public:
  // `bin_bytes`: size of the matching .bin. DataError names the section, the entry and the offset.
  TokenIndex(const std::string& path, int64_t bin_bytes);

  TokenType type() const { return type_; }
  int64_t num_documents() const { return static_cast<int64_t>(low_.size()) - 1; }
  int64_t num_tokens() const { return num_tokens_; }
  // First token of a document in the concatenated stream; num_tokens() for num_documents().
  int64_t document_begin(int64_t document) const;

 private:
  void add_document(int64_t begin);

  TokenType type_{};
  int64_t num_tokens_ = 0;
  // document_begin() in halves: the low 32 bits of each, and where the high half goes up by one
  // (ascending; a document may be there several times).
  std::vector<uint32_t> low_;
  std::vector<int64_t> carries_;
};

}  // namespace switchyard
