#pragma once
// Bounds-checked reading of little-endian binary formats, and the checked arithmetic for sizes that
// come from files. No number read from a file may reach an allocation or a pointer unchecked.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <fmt/format.h>

#include "core/io/raise.h"

namespace switchyard {

static_assert(std::endian::native == std::endian::little,
              "every file format here is little-endian");

// Empty if the result does not fit into 64 bits.
[[nodiscard]] std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b);

inline std::span<const std::byte> as_byte_span(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Reads fields one after the other. Every failure is thrown through `raise` and names the file, the
// field, its offset, what came and what was expected. Does not own the bytes.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string file, RaiseError raise);

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }

  // The next `count` bytes, not copied.
  std::span<const std::byte> take(uint64_t count, std::string_view field);

  // The next sizeof(T) bytes as a number.
  template <typename T>
  T read(std::string_view field) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, take(sizeof value, field).data(), sizeof value);
    return value;
  }

  // Rejects the value of the field that was read last: "FILE: FIELD at offset N: expected E, got
  // V".
  template <typename Value>
  [[noreturn]] void reject(std::string_view field, const Value& value,
                           std::string_view expected) const {
    fail(last_offset_, field, fmt::format("expected {}, got {}", expected, value));
  }

 private:
  [[noreturn]] void fail(uint64_t offset, std::string_view field, const std::string& problem) const;

  std::span<const std::byte> bytes_;
  std::string file_;
  RaiseError raise_;
  uint64_t offset_ = 0;
  uint64_t last_offset_ = 0;
};

}  // namespace switchyard
