// Conversions between element types, held against LibTorch's over all values of the narrow ones.

#include "core/base/dtype.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard {
namespace {

struct Narrow {
  DType dtype;
  at::ScalarType type;
};

class NarrowType : public testing::TestWithParam<Narrow> {};

// Every value of the type, by its bits.
at::Tensor all_values(const Narrow& narrow) {
  if (size_of(narrow.dtype) == 1) return at::arange(256, at::kByte).view(narrow.type);
  return at::arange(-32768, 32768, at::kShort).view(narrow.type);
}

template <typename Real>
void expect_as_libtorch(const Narrow& narrow, DType to, at::ScalarType to_type) {
  const at::Tensor values = all_values(narrow), expected = values.to(to_type);
  std::vector<Real> converted(static_cast<size_t>(values.numel()));
  convert(narrow.dtype, static_cast<const std::byte*>(values.data_ptr()), to,
          reinterpret_cast<std::byte*>(converted.data()), values.numel());
  const Real* wanted = expected.data_ptr<Real>();
  for (size_t i = 0; i < converted.size(); ++i) {
    const bool is_same =
        std::isnan(wanted[i])
            ? std::isnan(converted[i])
            : std::signbit(wanted[i]) == std::signbit(converted[i]) && wanted[i] == converted[i];
    EXPECT_TRUE(is_same) << i << ": " << converted[i] << " in place of " << wanted[i];
  }
}

TEST_P(NarrowType, HasTheValuesOfLibTorch) {
  expect_as_libtorch<float>(GetParam(), DType::kFloat32, at::kFloat);
  expect_as_libtorch<double>(GetParam(), DType::kFloat64, at::kDouble);
}

INSTANTIATE_TEST_SUITE_P(Types, NarrowType,
                         testing::Values(Narrow{DType::kFloat8E4M3, at::kFloat8_e4m3fn},
                                         Narrow{DType::kFloat16, at::kHalf},
                                         Narrow{DType::kBFloat16, at::kBFloat16}),
                         [](const auto& narrow) { return name_of(narrow.param.dtype); });

TEST(Conversion, OfTheSameTypeKeepsTheBits) {
  const uint32_t signalling = 0x7fa00001;  // a NaN that arithmetic would change
  uint32_t copy = 0;
  convert(DType::kFloat32, reinterpret_cast<const std::byte*>(&signalling), DType::kFloat32,
          reinterpret_cast<std::byte*>(&copy), 1);
  EXPECT_EQ(copy, signalling);
}

TEST(Conversion, RoundsDoublesToTheNearestFloat) {
  const double third = 1.0 / 3;
  float rounded = 0;
  convert(DType::kFloat64, reinterpret_cast<const std::byte*>(&third), DType::kFloat32,
          reinterpret_cast<std::byte*>(&rounded), 1);
  EXPECT_EQ(rounded, 1.0F / 3);
}

TEST(Conversion, IsOfFloatingPointTypesToWiderOnes) {
  EXPECT_FALSE(can_convert(DType::kInt32, DType::kFloat32));
  EXPECT_FALSE(can_convert(DType::kFloat32, DType::kBFloat16));
  EXPECT_TRUE(can_convert(DType::kInt32, DType::kInt32));
  EXPECT_THROW(convert(DType::kFloat32, nullptr, DType::kFloat16, nullptr, 0), CheckError);
}

TEST(ElementType, IsFoundByItsName) {
  for (const auto& [name, size] : kDTypeTraits) EXPECT_STREQ(name_of(*dtype_named(name)), name);
  EXPECT_EQ(dtype_named("U8"), DType::kUInt8);
  EXPECT_EQ(dtype_named("F8_E4M3"), DType::kFloat8E4M3);
  EXPECT_EQ(dtype_named("BF16"), DType::kBFloat16);
  EXPECT_EQ(dtype_named("F64"), DType::kFloat64);
  EXPECT_EQ(dtype_named("F8"), std::nullopt);
}

}  // namespace
}  // namespace switchyard
