#pragma once
// Element types shared by the communicator, files and tensors, free of LibTorch.

#include <array>
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
inline constexpr std::array kAllDTypes = {DType::kUInt8,      DType::kInt32,   DType::kInt64,
                                          DType::kFloat8E4M3, DType::kFloat16, DType::kBFloat16,
                                          DType::kFloat32,    DType::kFloat64};

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kUInt8:
    case DType::kFloat8E4M3:
      return 1;
    case DType::kFloat16:
    case DType::kBFloat16:
      return 2;
    case DType::kInt32:
    case DType::kFloat32:
      return 4;
    case DType::kInt64:
    case DType::kFloat64:
      return 8;
  }
  return 0;
}

// safetensors' names: "U8", "I32", "I64", "F8_E4M3", "F16", "BF16", "F32", "F64".
constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kUInt8:
      return "U8";
    case DType::kInt32:
      return "I32";
    case DType::kInt64:
      return "I64";
    case DType::kFloat8E4M3:
      return "F8_E4M3";
    case DType::kFloat16:
      return "F16";
    case DType::kBFloat16:
      return "BF16";
    case DType::kFloat32:
      return "F32";
    case DType::kFloat64:
      return "F64";
  }
  return "?";
}

std::optional<DType> dtype_named(std::string_view name);

// Whether convert() knows the way: from any type to itself, and from the floating-point types to
// F32 and F64.
bool can_convert(DType from, DType to);

// Writes `count` elements as another type. Exact, but that F64 becomes the nearest F32. Neither
// address need be aligned. Requires: can_convert(from, to).
void convert(DType from, const std::byte* source, DType to, std::byte* target, int64_t count);

}  // namespace switchyard
