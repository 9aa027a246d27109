#pragma once
// Element types shared by the communicator, files and tensors, free of LibTorch.

#include <cstddef>
#include <cstdint>

#include "core/base/errors.h"

namespace switchyard {

enum class DType : uint8_t { kUInt8, kInt32, kInt64, kBFloat16, kFloat32, kFloat64 };

constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kUInt8:
      return 1;
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

// safetensors' names: "U8", "I32", "I64", "BF16", "F32", "F64".
constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::kUInt8:
      return "U8";
    case DType::kInt32:
      return "I32";
    case DType::kInt64:
      return "I64";
    case DType::kBFloat16:
      return "BF16";
    case DType::kFloat32:
      return "F32";
    case DType::kFloat64:
      return "F64";
  }
  return "?";
}

}  // namespace switchyard
