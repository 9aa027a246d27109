#include "core/base/dtype.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/errors.h"

namespace switchyard {
namespace {

// A number of few bits as a float, which has all their values.
template <int kExponentBits, int kMantissaBits, bool kHasInfinity>
float widened(uint32_t bits) {
  constexpr uint32_t kLargestExponent = (1u << kExponentBits) - 1;
  constexpr int kBias = static_cast<int>(kLargestExponent / 2);
  constexpr float kSmallest = 1.0F / static_cast<float>(1u << (kBias - 1 + kMantissaBits));
  const uint32_t sign = bits >> (kExponentBits + kMantissaBits) << 31;
  const uint32_t exponent = bits >> kMantissaBits & kLargestExponent;
  const uint32_t mantissa = bits & ((1u << kMantissaBits) - 1);
  const uint32_t fraction = mantissa << (23 - kMantissaBits);
  uint32_t magnitude = (exponent + 127 - kBias) << 23 | fraction;
  if (exponent == 0) magnitude = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * kSmallest);
  if (exponent == kLargestExponent) {
    const bool is_nan = mantissa + 1 == 1u << kMantissaBits;
    if (kHasInfinity) magnitude = 255u << 23 | fraction;
    if (!kHasInfinity && is_nan) magnitude = 255u << 23 | 1u << 22;
  }
  return std::bit_cast<float>(sign | magnitude);
}

float of_e4m3(uint8_t bits) { return widened<4, 3, false>(bits); }
float of_float16(uint16_t bits) { return widened<5, 10, true>(bits); }
float of_bfloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
float of_float32(float value) { return value; }
double of_float64(double value) { return value; }

template <typename To, typename From, auto value_of>
void convert_all(const std::byte* source, std::byte* target, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    From from;
    std::memcpy(&from, source + i * static_cast<int64_t>(sizeof from), sizeof from);
    const To to = static_cast<To>(value_of(from));
    std::memcpy(target + i * static_cast<int64_t>(sizeof to), &to, sizeof to);
  }
}

template <typename To>
void convert_to(DType from, const std::byte* source, std::byte* target, int64_t count) {
  switch (from) {
    case DType::kFloat8E4M3:
      return convert_all<To, uint8_t, of_e4m3>(source, target, count);
    case DType::kFloat16:
      return convert_all<To, uint16_t, of_float16>(source, target, count);
    case DType::kBFloat16:
      return convert_all<To, uint16_t, of_bfloat16>(source, target, count);
    case DType::kFloat32:
      return convert_all<To, float, of_float32>(source, target, count);
    case DType::kFloat64:
      return convert_all<To, double, of_float64>(source, target, count);
    default:
      SY_CHECK(false, "{} is no floating-point type", name_of(from));
  }
}

}  // namespace

std::optional<DType> dtype_named(std::string_view name) {
  const auto found = std::ranges::find(kDTypeTraits, name, &DTypeTraits::name);
  if (found == std::end(kDTypeTraits)) return std::nullopt;
  return static_cast<DType>(found - kDTypeTraits);
}

bool can_convert(DType from, DType to) {
  const bool is_real = from != DType::kUInt8 && from != DType::kInt32 && from != DType::kInt64;
  return from == to || (is_real && (to == DType::kFloat32 || to == DType::kFloat64));
}

void convert(DType from, const std::byte* source, DType to, std::byte* target, int64_t count) {
  SY_CHECK(can_convert(from, to), "there is no conversion from {} to {}", name_of(from),
           name_of(to));
  if (from == to)
    std::memcpy(target, source, static_cast<size_t>(count) * size_of(from));
  else if (to == DType::kFloat32)
    convert_to<float>(from, source, target, count);
  else
    convert_to<double>(from, source, target, count);
}

}  // namespace switchyard
