#pragma once
// A tokenised data set on disk: PREFIX.bin (bare tokens) and PREFIX.idx (see
// core/data/token_index.h), and PREFIX.meta.json where this program made it.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/data/token_file_meta.h"
#include "core/data/token_index.h"
#include "core/data/token_source.h"
#include "core/io/file.h"

namespace switchyard {

// The documents one after another as a single stream. The index is kept in memory; tokens are read
// by offset, so that a .bin that is cut short during a run is a DataError, not a SIGBUS.
class TokenFile final : public TokenSource {
 public:
  // Validates the whole index against both file sizes, and both against the meta file if there is
  // one. `vocab_size` bounds every token read later. Throws DataError, also where a file is
  // missing.
  static std::shared_ptr<const TokenFile> open(const std::string& prefix, int64_t vocab_size);

  std::string name() const override { return prefix_; }
  int64_t num_tokens() const override { return index_.num_tokens(); }
  int64_t num_documents() const { return index_.num_documents(); }
  TokenType type() const { return index_.type(); }

  // Empty for a file of another program.
  const std::optional<TokenFileMeta>& meta() const { return meta_; }

  // A document is the tokens [document_begin(i), document_begin(i + 1)); it may be empty.
  int64_t document_begin(int64_t document) const { return index_.document_begin(document); }
  // The document that holds a token. Requires 0 <= token < num_tokens().
  int64_t document_at(int64_t token) const;

  // DataError with document and offset for an id outside [0, vocab_size), and for a block of the
  // .bin that is not as it was written, when it is first read.
  void read(int64_t first, std::span<int32_t> tokens) const override;
  void segments(int64_t first, std::span<int32_t> numbers) const override;
  // Looks at the sizes, the first and last 4 KiB of the tokens, and 512 blocks of 8 KiB spread
  // evenly: up to 4 MiB, all of the tokens.
  uint64_t fingerprint() const override;

 private:
  // Of the sizes and the edges of the tokens.
  uint64_t fingerprint_of_edges() const;
  TokenFile(const std::string& prefix, int64_t vocab_size);
  int64_t bytes_used() const { return num_tokens() * size_of(type()); }
  void check_meta() const;
  void check_blocks(int64_t begin, int64_t end) const;
  void read_bytes(int64_t offset, std::span<std::byte> bytes) const;
  void read_raw(int64_t offset, std::span<std::byte> bytes) const;
  template <typename Stored>
  void widen(int64_t first, std::span<const std::byte> raw, std::span<int32_t> tokens) const;
  [[noreturn]] void throw_bad_token(int64_t at, int64_t value) const;

  std::string prefix_;
  int64_t vocab_size_;
  InputFile bin_;
  TokenIndex index_;
  std::optional<TokenFileMeta> meta_;
  std::unique_ptr<std::atomic<bool>[]> is_checked_;  // by block of meta_
};

// DataError unless PREFIX.bin and PREFIX.idx are there.
void require_token_file(const std::string& prefix);

}  // namespace switchyard
