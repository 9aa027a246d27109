#pragma once
// The safetensors format, strict both ways: u64 header length | JSON header | tensor data.
// github.com/huggingface/safetensors, README "Format". Nothing in a file is believed before it is
// checked against the file's size, and no code is ever loaded from it.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/dtype.h"
#include "core/io/checksum.h"
#include "core/io/file.h"
#include "core/io/file_system.h"

namespace switchyard {

inline constexpr uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;  // empty: a scalar; any dimension may be 0
  uint64_t begin;              // bytes [begin, end) of the data part, which starts at data_begin
  uint64_t end;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry>
      entries;  // in the order of their data, which they cover without gap
  std::map<std::string, std::string> metadata;
  uint64_t data_begin;  // offset in the file
};

// Checks the whole structure of a file's bytes; CheckpointError names `path` and the tensor.
[[nodiscard]] SafetensorsHeader parse_safetensors(std::span<const std::byte> file_bytes,
                                                  const std::string& path);

// An open, valid file. The data is mapped, not copied, and not yet read: compare a tensor's CRC-32C
// where one is known.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::vector<SafetensorsEntry>& entries() const { return header_.entries; }

  // Null if there is no such tensor.
  const SafetensorsEntry* find(std::string_view name) const;
  // Valid while this object lives. May be unaligned in files that others wrote.
  std::span<const std::byte> bytes(const SafetensorsEntry& entry) const;
  // Gives the memory of these bytes back until they are read again.
  void forget(const SafetensorsEntry& entry) const { file_.forget(bytes(entry)); }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::map<std::string, size_t, std::less<>> index_of_name_;
};

struct TensorToWrite {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // row-major, not owned
};

struct WrittenTensor {
  std::string name;
  uint32_t crc32c;
};

struct WrittenSafetensors {
  std::vector<WrittenTensor> tensors;  // in the order of the file
  Sha256Digest sha256;                 // of the whole file
  uint64_t file_bytes;
};

// Writes and syncs `path`; the tensors go straight from their memory to the file, which depends on
// nothing but the arguments' content, not on their order. Not atomic: a commit renames the folder.
// Requires: distinct names and bytes that match dtype x shape. CheckpointError if the header would
// exceed the format's limit or a name is not UTF-8.
WrittenSafetensors write_safetensors(const FileSystem& files, const std::string& path,
                                     std::vector<TensorToWrite> tensors);

}  // namespace switchyard
