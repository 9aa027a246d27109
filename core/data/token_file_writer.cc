#include "core/data/token_file_writer.h"

#include <filesystem>
#include <limits>

#include <unistd.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

std::string folder_of(const std::string& prefix) {
  const auto folder = std::filesystem::path(prefix).parent_path();
  return folder.empty() ? "." : folder.string();
}

// The two files replace what has their names, which must be nothing or files.
void refuse_folders(const std::string& prefix) {
  for (const char* suffix : {".bin", ".idx"}) {
    std::error_code ignored;
    if (std::filesystem::is_directory(prefix + suffix, ignored))
      throw StorageError(
          fmt::format("{}{} is a folder, and the token file needs its name; choose another prefix "
                      "or remove it",
                      prefix, suffix));
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
      bin_((refuse_folders(prefix), create(".bin"))) {}

TokenFileWriter::~TokenFileWriter() {
  std::error_code ignored;  // nothing to be done about it here
  for (const char* suffix : {".bin", ".idx"}) std::filesystem::remove(temporary(suffix), ignored);
}

std::string TokenFileWriter::temporary(const std::string& suffix) const {
  return fmt::format("{}{}.tmp-{}", prefix_, suffix, ::getpid());
}

TokenFileWriter::Output TokenFileWriter::create(const std::string& suffix) const {
  files_.create_directory(folder_of(prefix_));
  return {files_.create_file(temporary(suffix))};
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

void TokenFileWriter::finish() {
  Output index = create(".idx");
  write_index(index);
  index.close();
  bin_.close();
  refuse_folders(prefix_);
  files_.remove_all(prefix_ + ".idx");  // an index of earlier tokens must not meet the new ones
  for (const char* suffix : {".bin", ".idx"}) files_.rename(temporary(suffix), prefix_ + suffix);
  files_.sync_directory(folder_of(prefix_));
}

}  // namespace switchyard
