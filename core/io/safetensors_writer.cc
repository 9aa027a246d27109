#include <algorithm>
#include <array>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/base/foreign_text.h"
#include "core/io/bytes.h"
#include "core/io/safetensors.h"

namespace switchyard {
namespace {

// The reference library's order of dtypes: wider elements first, so that all are aligned.
constexpr std::array kOrder = {DType::kInt64,      DType::kFloat64,  DType::kFloat32,
                               DType::kInt32,      DType::kBFloat16, DType::kFloat16,
                               DType::kFloat8E4M3, DType::kUInt8};
static_assert(kOrder.size() == std::size(kDTypeTraits));

void sort_and_check(std::vector<TensorToWrite>& tensors) {
  std::ranges::sort(tensors, {}, [](const TensorToWrite& tensor) {
    return std::tuple(std::ranges::find(kOrder, tensor.dtype), std::string_view(tensor.name));
  });
  for (const auto& tensor : tensors) {
    uint64_t bytes = size_of(tensor.dtype);
    for (const int64_t dim : tensor.shape) bytes *= static_cast<uint64_t>(dim);
    SY_CHECK(bytes == tensor.bytes.size(), "tensor {}: {} [{}] needs {} bytes, got {}", tensor.name,
             name_of(tensor.dtype), fmt::join(tensor.shape, ", "), bytes, tensor.bytes.size());
  }
}

std::string json_string(const std::string& text, const std::string& path) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::type_error&) {
    throw CheckpointError(
        fmt::format("{}: {} is not UTF-8, which safetensors needs", path, in_quotes(text)));
  }
}

// The header's JSON, padded with spaces so that the data part begins at a multiple of 8.
std::string make_header(const std::vector<TensorToWrite>& tensors, const std::string& path) {
  std::string header = "{";
  uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    const uint64_t end = offset + tensor.bytes.size();
    fmt::format_to(std::back_inserter(header),
                   "{}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                   header.size() == 1 ? "" : ",", json_string(tensor.name, path),
                   name_of(tensor.dtype), fmt::join(tensor.shape, ","), offset, end);
    offset = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > kSafetensorsMaxHeaderBytes)
    throw CheckpointError(
        fmt::format("{}: {} tensors need a header of {} bytes, and readers accept at most {}; "
                    "write fewer tensors per file",
                    path, tensors.size(), header.size(), kSafetensorsMaxHeaderBytes));
  return header;
}

void check_distinct(const std::vector<TensorToWrite>& tensors) {
  std::vector<std::string_view> names;
  for (const auto& tensor : tensors) names.push_back(tensor.name);
  std::ranges::sort(names);
  const auto same = std::ranges::adjacent_find(names);
  SY_CHECK(same == names.end(), "two tensors are named {}", *same);
  SY_CHECK(!std::ranges::binary_search(names, "__metadata__"), "no tensor may be so named");
}

// Writes through to the file and hashes what passes.
class HashingFile {
 public:
  explicit HashingFile(OutputFile file) : file_(std::move(file)) {}

  // Returns the CRC-32C. In pieces that stay in the cache from the checksums to the copy.
  uint32_t write(std::span<const std::byte> bytes) {
    constexpr size_t kPieceBytes = size_t{1} << 20;
    uint32_t crc = 0;
    while (!bytes.empty()) {
      const auto piece = bytes.first(std::min(bytes.size(), kPieceBytes));
      crc = crc32c(piece, crc);
      hash_.update(piece);
      file_.write(piece);
      bytes = bytes.subspan(piece.size());
      if (file_.size() >= next_sync_) sync_some();
    }
    return crc;
  }

  // On disk when it returns.
  Sha256Digest finish() {
    file_.sync();
    file_.close();
    return hash_.finish();
  }

  uint64_t size() const { return file_.size(); }

 private:
  // Now and then, so that no single fsync takes longer than whoever waits for this rank allows.
  void sync_some() {
    file_.sync();
    next_sync_ = file_.size() + kBytesBetweenSyncs;
  }

  static constexpr uint64_t kBytesBetweenSyncs = uint64_t{64} << 20;
  OutputFile file_;
  Sha256 hash_;
  uint64_t next_sync_ = kBytesBetweenSyncs;
};

}  // namespace

WrittenSafetensors write_safetensors(const FileSystem& files, const std::string& path,
                                     std::vector<TensorToWrite> tensors) {
  check_distinct(tensors);
  sort_and_check(tensors);
  const std::string header = make_header(tensors, path);
  const uint64_t header_bytes = header.size();

  HashingFile file(files.create_file(path));
  file.write(std::as_bytes(std::span(&header_bytes, 1)));
  file.write(as_byte_span(header));
  WrittenSafetensors written;
  for (const auto& tensor : tensors)
    written.tensors.push_back({tensor.name, file.write(tensor.bytes)});
  written.file_bytes = file.size();
  written.sha256 = file.finish();
  return written;
}

}  // namespace switchyard
