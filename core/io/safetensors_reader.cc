#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/base/foreign_text.h"
#include "core/io/bytes.h"
#include "core/io/json_events.h"
#include "core/io/safetensors.h"

namespace switchyard {
namespace {

// Element types that the format has and this project does not use.
constexpr std::array<std::string_view, 14> kOtherDTypes = {
    "BOOL", "I8",      "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F4",
    "I16",  "F6_E2M3", "F6_E3M2", "U16",     "C64",         "U32",         "U64"};

// The header's object {name: {dtype, shape, data_offsets}, "__metadata__": {text: text}}.
class HeaderEvents : public JsonEvents {
 public:
  explicit HeaderEvents(const std::string& path) : JsonEvents(path, raise<CheckpointError>) {}

  bool start_object(size_t) {
    switch (level_) {
      case Level::kStart:
        return enter(Level::kRoot);
      case Level::kRoot:
        return enter(name_ == "__metadata__" ? Level::kMetadata : Level::kTensor);
      default:
        fail_here("unexpected object");
    }
  }

  bool end_object() {
    if (level_ == Level::kTensor) finish_tensor();
    return enter(Level::kRoot);  // after the root itself, the parser accepts nothing more
  }

  bool key(std::string& text) {
    if (level_ == Level::kRoot) {
      name_ = std::move(text);
      field_.clear();
      if (!names_.insert(name_).second) fail_here("duplicate name");
      draft_ = {};
      return true;
    }
    field_ = std::move(text);
    if (level_ == Level::kTensor) begin_field();
    return true;
  }

  bool string(std::string& text) {
    if (level_ == Level::kMetadata) {
      if (!header_.metadata.emplace(field_, std::move(text)).second) fail_here("duplicate key");
      return true;
    }
    if (level_ != Level::kTensor || field_ != "dtype") fail_here("unexpected string");
    draft_.dtype = parse_dtype(text);
    return true;
  }

  bool start_array(size_t) {
    if (level_ != Level::kTensor || field_ == "dtype") fail_here("unexpected array");
    return enter(Level::kArray);
  }
  bool end_array() { return enter(Level::kTensor); }

  bool number_unsigned(uint64_t value) {
    if (level_ != Level::kArray) fail_here(fmt::format("unexpected number {}", value));
    (field_ == "shape" ? draft_.shape : draft_.data_offsets)->push_back(value);
    return true;
  }
  bool number_integer(int64_t value) {
    fail_here(fmt::format("expected a non-negative integer, got {}", value));
  }
  bool number_float(double, const std::string& digits) {
    fail_here(fmt::format("expected a non-negative integer, got {}", in_quotes(digits)));
  }
  bool null() { fail_here("unexpected null"); }
  bool boolean(bool) { fail_here("unexpected boolean"); }

  SafetensorsHeader take() { return std::move(header_); }

 private:
  enum class Level { kStart, kRoot, kMetadata, kTensor, kArray };

  struct Draft {
    std::optional<DType> dtype;
    std::optional<std::vector<uint64_t>> shape, data_offsets;
  };

  bool enter(Level level) {
    level_ = level;
    return true;
  }

  [[noreturn]] void fail_here(const std::string& problem) const {
    if (level_ == Level::kStart) fail("header: " + problem);
    const std::string field = field_.empty() ? "" : fmt::format("{}: ", in_quotes(field_));
    fail(fmt::format("tensor {}: {}{}", in_quotes(name_), field, problem));
  }

  void begin_field() {
    const bool is_known = field_ == "dtype" || field_ == "shape" || field_ == "data_offsets";
    if (!is_known) fail_here("expected only dtype, shape and data_offsets");
    const bool is_duplicate = field_ == "dtype"   ? draft_.dtype.has_value()
                              : field_ == "shape" ? draft_.shape.has_value()
                                                  : draft_.data_offsets.has_value();
    if (is_duplicate) fail_here("duplicate key");
    if (field_ == "shape") draft_.shape.emplace();
    if (field_ == "data_offsets") draft_.data_offsets.emplace();
  }

  DType parse_dtype(const std::string& text) const {
    if (const auto dtype = dtype_named(text)) return *dtype;
    constexpr std::string_view kWanted = "expected U8, I32, I64, F8_E4M3, F16, BF16, F32 or F64";
    if (std::ranges::find(kOtherDTypes, text) != kOtherDTypes.end())
      fail_here(
          fmt::format("{} tensors are not supported, {}; convert the file first", text, kWanted));
    fail_here(fmt::format("unknown dtype {}, {}", in_quotes(text), kWanted));
  }

  void finish_tensor() {
    field_.clear();
    if (!draft_.dtype || !draft_.shape || !draft_.data_offsets)
      fail_here("expected dtype, shape and data_offsets, but not all are there");
    const auto& offsets = *draft_.data_offsets;
    if (offsets.size() != 2 || offsets[0] > offsets[1])
      fail_here(fmt::format("expected data_offsets [begin, end] with begin <= end, got [{}]",
                            fmt::join(offsets, ", ")));
    SafetensorsEntry entry{name_, *draft_.dtype, {}, offsets[0], offsets[1]};
    check_size(entry);
    entry.shape.assign(draft_.shape->begin(), draft_.shape->end());
    header_.entries.push_back(std::move(entry));
  }

  // Zeros are left out of the product that must not wrap, so that the strides fit too and every
  // dimension fits int64.
  void check_size(const SafetensorsEntry& entry) const {
    std::optional<uint64_t> bytes = size_of(entry.dtype);
    bool is_empty = false;
    for (const uint64_t dim : *draft_.shape) {
      is_empty = is_empty || dim == 0;
      bytes = checked_mul(*bytes, std::max<uint64_t>(dim, 1));
      if (!bytes || *bytes > INT64_MAX)
        fail_here(fmt::format("shape [{}] has too many elements", fmt::join(*draft_.shape, ", ")));
    }
    const uint64_t expected = is_empty ? 0 : *bytes;
    if (entry.end - entry.begin != expected)
      fail_here(
          fmt::format("dtype {} and shape [{}] need {} bytes, but data_offsets [{}, {}] hold {}",
                      name_of(entry.dtype), fmt::join(*draft_.shape, ", "), expected, entry.begin,
                      entry.end, entry.end - entry.begin));
  }

  Level level_ = Level::kStart;
  std::string name_, field_;
  std::set<std::string, std::less<>> names_;
  Draft draft_;
  SafetensorsHeader header_;
};

// What a file with a mad header length really is, for the message.
std::string foreign_format(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()),
                              std::min<size_t>(bytes.size(), 16));
  if (text.starts_with("PK\x03\x04")) return "; it looks like a PyTorch or zip archive";
  if (text.starts_with("\x80\x02") || text.starts_with("\x80\x04"))
    return "; it looks like a Python pickle, which is never loaded here";
  if (text.starts_with("GGUF")) return "; it looks like a GGUF file";
  if (text.starts_with("version https:"))
    return "; it looks like a Git LFS pointer: fetch the file";
  return "";
}

// The header's text, once its length is known to be sane.
std::string_view header_text(std::span<const std::byte> file, const std::string& path) {
  ByteReader reader(file, path, raise<CheckpointError>);
  const auto length = reader.read<uint64_t>("header length");
  const uint64_t limit = std::min(kSafetensorsMaxHeaderBytes, reader.remaining());
  if (length < 2 || length > limit)
    reader.reject(
        "header length", length,
        fmt::format("2 to {} (the file has {} bytes{})", limit, file.size(), foreign_format(file)));
  const auto bytes = reader.take(length, "header");
  if (bytes[0] != std::byte{'{'})
    reader.reject("header", static_cast<int>(bytes[0]), "'{' (123) as its first byte");
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Sorts the entries by their data and checks that they cover [0, data_bytes) without gap or
// overlap.
void check_coverage(std::vector<SafetensorsEntry>& entries, uint64_t data_bytes,
                    const std::string& path) {
  std::ranges::sort(entries, {}, [](const SafetensorsEntry& entry) {
    return std::tuple(entry.begin, entry.end, std::string_view(entry.name));
  });
  uint64_t covered = 0;
  for (const auto& entry : entries) {
    if (entry.begin != covered)
      throw CheckpointError(fmt::format(
          "{}: tensor {}: its data begins at {}, expected {}, where the one before ends ({})", path,
          in_quotes(entry.name), entry.begin, covered, entry.begin < covered ? "overlap" : "gap"));
    covered = entry.end;
    if (covered > data_bytes)
      throw CheckpointError(
          fmt::format("{}: tensor {}: its data ends at {}, but the file holds {} bytes of data; it "
                      "is truncated",
                      path, in_quotes(entry.name), covered, data_bytes));
  }
  if (covered != data_bytes)
    throw CheckpointError(fmt::format("{}: {} bytes behind the last tensor, expected none", path,
                                      data_bytes - covered));
}

MappedFile map_checkpoint(const std::string& path) {
  if (!std::filesystem::exists(path)) throw CheckpointError(path + ": no such file");
  return MappedFile(path);
}

}  // namespace

SafetensorsHeader parse_safetensors(std::span<const std::byte> file_bytes,
                                    const std::string& path) {
  const std::string_view text = header_text(file_bytes, path);
  HeaderEvents events(path);
  parse_json_events(text, events);
  SafetensorsHeader header = events.take();
  header.data_begin = sizeof(uint64_t) + text.size();
  check_coverage(header.entries, file_bytes.size() - header.data_begin, path);
  return header;
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : file_(map_checkpoint(path)), header_(parse_safetensors(file_.bytes(), path)) {
  for (size_t i = 0; i < header_.entries.size(); ++i)
    index_of_name_.emplace(header_.entries[i].name, i);
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_of_name_.find(name);
  return found == index_of_name_.end() ? nullptr : &header_.entries[found->second];
}

std::span<const std::byte> SafetensorsFile::bytes(const SafetensorsEntry& entry) const {
  return file_.bytes().subspan(header_.data_begin + entry.begin, entry.end - entry.begin);
}

}  // namespace switchyard
