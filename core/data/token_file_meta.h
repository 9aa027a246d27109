#pragma once
// PREFIX.meta.json beside a token file: which tokenizer made it, and checksums of its bytes.
// `switchyard tokenize` writes it; files of other programs have none.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

struct TokenFileMeta {
  std::string tokenizer;  // "bytes", or the model's path, as this process can open it
  uint64_t tokenizer_fingerprint = 0;
  int64_t vocab_size = 0;
  int64_t bin_bytes = 0, idx_bytes = 0;
  uint32_t idx_crc32c = 0;
  int64_t block_bytes = 0;
  std::vector<uint32_t> bin_crc32c;  // of each block of the .bin; the last may be shorter

  bool operator==(const TokenFileMeta&) const = default;
};

std::string token_file_meta_path(const std::string& prefix);

// The model's path is written as seen from the token file's folder, so that both can move together.
std::string to_json(const TokenFileMeta& meta, const std::string& prefix);

// Empty where there is no such file. DataError where it is damaged.
std::optional<TokenFileMeta> read_token_file_meta(const std::string& prefix);

}  // namespace switchyard
