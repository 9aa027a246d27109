#include "core/io/bytes.h"

#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

constexpr uint64_t kMax = UINT64_MAX;

TEST(CheckedArithmetic, IsEmptyExactlyWhereTheResultWraps) {
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1), kMax - 0xFFFFFFFF);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32), std::nullopt);
  EXPECT_EQ(checked_mul(kMax, 0), 0u);
}

TEST(ByteReader, ReadsLittleEndianNumbersAtAnyAlignment) {
  const std::string bytes("\x01\x02\x00\xff\xff\xff\xff\x00\x00\x80\x3f", 11);
  ByteReader reader(as_byte_span(bytes), "f", raise<DataError>);
  EXPECT_EQ(reader.read<uint8_t>("a"), 1);
  EXPECT_EQ(reader.read<uint16_t>("b"), 2);
  EXPECT_EQ(reader.read<int32_t>("c"), -1);
  EXPECT_EQ(reader.read<float>("d"), 1.0f);
  EXPECT_EQ(reader.remaining(), 0u);
}

template <typename Error, typename Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(ByteReader, NamesFileFieldOffsetAndSizesThroughTheCallersErrorKind) {
  const std::string bytes(5, '\0');
  ByteReader reader(as_byte_span(bytes), "tokens.idx", raise<CheckpointError>);
  reader.take(3, "magic");
  const std::string message =
      message_of<CheckpointError>([&] { reader.read<uint32_t>("version"); });
  EXPECT_THAT(message, HasSubstr("tokens.idx: version at offset 3"));
  EXPECT_THAT(message, HasSubstr("the file ends 2 bytes later (file size 5)"));
}

TEST(ByteReader, RejectsAValueWithTheOffsetOfTheLastField) {
  const std::string bytes("\0\0\x07", 3);
  ByteReader reader(as_byte_span(bytes), "tokens.idx", raise<DataError>);
  reader.take(2, "magic");
  const auto version = reader.read<uint8_t>("version");
  EXPECT_EQ(message_of<DataError>([&] { reader.reject("version", version, "1"); }),
            "tokens.idx: version at offset 2: expected 1, got 7");
}

}  // namespace
}  // namespace switchyard
