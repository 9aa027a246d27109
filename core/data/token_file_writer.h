#pragma once
// Writes PREFIX.bin and PREFIX.idx (see core/data/token_index.h), one sequence per document, and
// PREFIX.meta.json (core/data/token_file_meta.h).

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/data/block_checksums.h"
#include "core/data/token_index.h"
#include "core/data/tokenizer.h"
#include "core/io/file.h"
#include "core/io/file_system.h"

namespace switchyard {

// Memory: four bytes per document, and a buffer. The files carry temporary names until finish(); a
// writer destroyed before leaves nothing behind.
class TokenFileWriter {
 public:
  // Creates the folder of `prefix`, and removes what a writer of the same prefix left there when it
  // was killed. Tokens are stored as uint16 for vocabularies below 65500 and as int32 otherwise.
  TokenFileWriter(const std::string& prefix, int64_t vocab_size);
  ~TokenFileWriter();
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;

  // Requires ids in [0, vocab_size) and fewer than 2^31 of them. May be empty.
  void add_document(std::span<const int32_t> tokens);
  // Flushes to disk and gives the files their names, .idx last: it never lacks the others.
  // tokenizer: what made the ids; null where nobody knows, and then there is no meta file.
  void finish(const Tokenizer* tokenizer = nullptr);

 private:
  // A file that gets many small writes.
  struct Output {
    OutputFile file;
    BlockChecksums checksums;
    std::vector<std::byte> buffer{};

    void put(const void* bytes, size_t size);
    void flush();
    void close();  // after which the bytes are on the disk
  };
  Output create(const std::string& suffix, uint64_t block_bytes) const;
  std::string temporary(const std::string& suffix) const;
  void write_index(Output& index) const;
  void write_meta(const Tokenizer& tokenizer, Output& index);

  std::string prefix_;
  int64_t vocab_size_;
  TokenType type_;
  FileSystem files_;
  Output bin_;
  std::vector<int32_t> lengths_;
};

}  // namespace switchyard
