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
  if (count > remaining())
    fail(offset_, field,
         fmt::format("expected {} bytes, but the file ends {} bytes later (file size {}); it is "
                     "truncated or damaged",
                     count, remaining(), bytes_.size()));
  const auto taken = bytes_.subspan(offset_, count);
  last_offset_ = offset_;
  offset_ += taken.size();
  return taken;
}

void ByteReader::fail(uint64_t offset, std::string_view field, const std::string& problem) const {
  raise_(fmt::format("{}: {} at offset {}: {}", file_, field, offset, problem));
  std::abort();  // raise_ throws
}

}  // namespace switchyard
