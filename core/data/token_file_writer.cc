#include "core/data/token_file_writer.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <limits>

#include "core/base/errors.h"
#include "core/data/token_file_meta.h"

namespace switchyard {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
// Some rows, so that checking what is read costs little, and thousands of tokens for a checksum.
constexpr uint64_t kBlockBytes = 256 << 10;
constexpr uint64_t kOneBlock = std::numeric_limits<uint64_t>::max();
constexpr const char* kSuffixes[] = {".bin", ".meta.json", ".idx"};  // as they get their names

std::string folder_of(const std::string& prefix) {
  const auto folder = std::filesystem::path(prefix).parent_path();
  return folder.empty() ? "." : folder.string();
}

// The files replace what has their names, which must be nothing or files.
void refuse_folders(const std::string& prefix) {
  for (const char* suffix : kSuffixes) {
    std::error_code ignored;
    if (std::filesystem::is_directory(prefix + suffix, ignored))
      throw StorageError(fmt::format(
          "{}{} is a folder, and the token file needs its name; choose another prefix or remove it",
          prefix, suffix));
  }
}

// The process that a temporary name of `prefix` ends with; 0 for any other name.
pid_t writer_of(std::string_view name, const std::string& prefix) {
  for (const char* suffix : kSuffixes) {
    const std::string begin = fmt::format("{}{}.tmp-", prefix, suffix);
    if (!name.starts_with(begin)) continue;
    name.remove_prefix(begin.size());
    pid_t writer = 0;
    const auto end = std::from_chars(name.data(), name.data() + name.size(), writer).ptr;
    return end == name.data() + name.size() ? writer : 0;
  }
  return 0;
}

// Temporary files of writers that are no more. What cannot be listed or removed stays.
void remove_leftovers(const std::string& prefix) {
  const std::string name = std::filesystem::path(prefix).filename().string();
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder_of(prefix), ignored)) {
    const pid_t writer = writer_of(entry.path().filename().string(), name);
    const bool is_gone = writer > 0 && ::kill(writer, 0) != 0 && errno == ESRCH;
    if (is_gone && entry.is_regular_file(ignored)) std::filesystem::remove(entry.path(), ignored);
  }
}

}  // namespace

void TokenFileWriter::Output::put(const void* bytes, size_t size) {
  const auto* first = static_cast<const std::byte*>(bytes);
  buffer.insert(buffer.end(), first, first + size);
  if (buffer.size() >= kBufferBytes) flush();
}

void TokenFileWriter::Output::flush() {
  file.write(buffer);
  checksums.add(buffer);
  buffer.clear();
}

void TokenFileWriter::Output::close() {
  flush();
  file.sync();
  file.close();
}

TokenFileWriter::TokenFileWriter(const std::string& prefix, int64_t vocab_size)
    : prefix_(prefix),
      vocab_size_(vocab_size),
      type_(vocab_size < 65500 ? TokenType::kUInt16 : TokenType::kInt32),
      bin_((refuse_folders(prefix), create(".bin", kBlockBytes))) {
  remove_leftovers(prefix);
}

TokenFileWriter::~TokenFileWriter() {
  std::error_code ignored;  // nothing to be done about it here
  for (const char* suffix : kSuffixes) std::filesystem::remove(temporary(suffix), ignored);
}

std::string TokenFileWriter::temporary(const std::string& suffix) const {
  return fmt::format("{}{}.tmp-{}", prefix_, suffix, ::getpid());
}

TokenFileWriter::Output TokenFileWriter::create(const std::string& suffix,
                                                uint64_t block_bytes) const {
  files_.create_directory(folder_of(prefix_));
  return {files_.create_file(temporary(suffix)), BlockChecksums(block_bytes)};
}

void TokenFileWriter::add_document(std::span<const int32_t> tokens) {
  SY_CHECK(tokens.size() <= std::numeric_limits<int32_t>::max(), "document of {} tokens",
           tokens.size());
  for (const int32_t token : tokens) {
    SY_CHECK(token >= 0 && token < vocab_size_, "token {} with a vocabulary of {}", token,
             vocab_size_);
    bin_.put(&token, static_cast<size_t>(size_of(type_)));  // little-endian: the low bytes
  }
  lengths_.push_back(static_cast<int32_t>(tokens.size()));
}

void TokenFileWriter::write_index(Output& index) const {
  const auto put = [&](auto value) { index.put(&value, sizeof value); };
  const auto count = static_cast<int64_t>(lengths_.size());
  index.put(kTokenIndexMagic.data(), kTokenIndexMagic.size());
  put(uint64_t{1});  // version
  put(type_);
  put(count);
  put(count + 1);
  for (const int32_t length : lengths_) put(length);
  int64_t pointer = 0;
  for (const int32_t length : lengths_) {
    put(pointer);
    pointer += length * size_of(type_);
  }
  for (int64_t document = 0; document <= count; ++document) put(document);
}

// Requires: the others are closed.
void TokenFileWriter::write_meta(const Tokenizer& tokenizer, Output& index) {
  TokenFileMeta meta;
  meta.tokenizer = tokenizer.name();
  meta.tokenizer_fingerprint = tokenizer.fingerprint();
  meta.vocab_size = vocab_size_;
  meta.bin_bytes = static_cast<int64_t>(bin_.file.size());
  meta.idx_bytes = static_cast<int64_t>(index.file.size());
  meta.idx_crc32c = index.checksums.finish().front();
  meta.block_bytes = kBlockBytes;
  meta.bin_crc32c = bin_.checksums.finish();
  const std::string json = to_json(meta, prefix_);
  Output output = create(".meta.json", kOneBlock);
  output.put(json.data(), json.size());
  output.close();
}

void TokenFileWriter::finish(const Tokenizer* tokenizer) {
  Output index = create(".idx", kOneBlock);
  write_index(index);
  index.close();
  bin_.close();
  if (tokenizer) write_meta(*tokenizer, index);
  refuse_folders(prefix_);
  // What describes earlier tokens must not meet the new ones.
  for (const char* suffix : {".idx", ".meta.json"}) files_.remove_all(prefix_ + suffix);
  for (const std::string suffix : kSuffixes)
    if (tokenizer || suffix != ".meta.json") files_.rename(temporary(suffix), prefix_ + suffix);
  files_.sync_directory(folder_of(prefix_));
}

}  // namespace switchyard
