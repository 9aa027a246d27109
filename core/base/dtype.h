#pragma once
// Element types shared by the communicator, files and tensors, free of LibTorch.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace switchyard {

enum class DType : uint8_t {
  kUInt8,
  kInt32,
  kInt64,
  kFloat8E4M3,  // four bits of exponent, three of mantissa, no infinity
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64,
};

// In the order of DType.
struct DTypeTraits {
  const char* name;  // safetensors'
  size_t size;       // bytes
};
inline constexpr DTypeTraits kDTypeTraits[] = {{"U8", 1},  {"I32", 4},  {"I64", 8}, {"F8_E4M3", 1},
                                               {"F16", 2}, {"BF16", 2}, {"F32", 4}, {"F64", 8}};

constexpr size_t size_of(DType dtype) { return kDTypeTraits[static_cast<size_t>(dtype)].size; }
constexpr const char* name_of(DType dtype) { return kDTypeTraits[static_cast<size_t>(dtype)].name; }

std::optional<DType> dtype_named(std::string_view name);

// Whether convert() knows the way: from any type to itself, and from the floating-point types to
// F32 and F64.
bool can_convert(DType from, DType to);

// Writes `count` elements as another type. Exact, but that F64 becomes the nearest F32. Neither
// address need be aligned. Requires: can_convert(from, to).
void convert(DType from, const std::byte* source, DType to, std::byte* target, int64_t count);

}  // namespace switchyard
