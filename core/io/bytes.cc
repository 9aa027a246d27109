#include "core/io/bytes.h"

#include <cstdlib>
#include <utility>

namespace switchyard {

std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

ByteReader::ByteReader(std::span<const std::byte> bytes, std::string file, RaiseError raise)
    : bytes_(bytes), file_(std::move(file)), raise_(raise) {}

std::span<const std::byte> ByteReader::take(uint64_t count, std::string_view field) {
  return take_array(count, 1, field);
}

std::span<const std::byte> ByteReader::take_array(uint64_t count, uint64_t element_bytes,
                                                  std::string_view field) {
  // Divided, not multiplied: count * element_bytes may wrap.
  if (count > remaining() / element_bytes) {
    const std::string wanted = element_bytes == 1 ? fmt::format("{}", count)
                                                  : fmt::format("{} x {}", count, element_bytes);
    fail(offset_, field,
         fmt::format("expected {} bytes, but the file ends {} bytes later (file size {}); it is "
                     "truncated or damaged",
                     wanted, remaining(), bytes_.size()));
  }
  const auto taken = bytes_.subspan(offset_, count * element_bytes);
  last_offset_ = offset_;
  offset_ += taken.size();
  return taken;
}

void ByteReader::fail(uint64_t offset, std::string_view field, const std::string& problem) const {
  raise_(fmt::format("{}: {} at offset {}: {}", file_, field, offset, problem));
  std::abort();  // raise_ throws
}

}  // namespace switchyard
