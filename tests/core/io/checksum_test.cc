#include "core/io/checksum.h"

#include <numeric>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/io/bytes.h"

namespace switchyard {
namespace {

class EveryCode : public testing::TestWithParam<ChecksumCode> {
 protected:
  uint32_t crc(std::string_view text) const { return crc32c(as_byte_span(text), 0, GetParam()); }
};

std::string sha(std::string_view text) { return sha256_hex(as_byte_span(text)); }

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
TEST_P(EveryCode, Crc32cGivesThePublishedValues) {
  std::string ascending(32, '\0');
  std::iota(ascending.begin(), ascending.end(), '\0');
  EXPECT_EQ(crc(""), 0u);
  EXPECT_EQ(crc("123456789"), 0xE3069283u);
  EXPECT_EQ(crc(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(crc(std::string(32, '\xFF')), 0x62A8AB43u);
  EXPECT_EQ(crc(ascending), 0x46DD794Eu);
}

// FIPS 180-4 examples.
TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(sha(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_P(EveryCode, PiecesGiveTheSameAsTheWhole) {
  std::string text(300, '\0');
  std::iota(text.begin(), text.end(), '\0');
  for (size_t length = 0; length <= text.size(); length += 7) {
    const std::string_view whole(text.data(), length);
    for (size_t cut = 0; cut <= length; cut += 13) {
      const auto first = as_byte_span(whole.substr(0, cut)), rest = as_byte_span(whole.substr(cut));
      EXPECT_EQ(crc32c(rest, crc32c(first, 0, GetParam()), GetParam()), crc(whole));
    }
  }
}

TEST(Sha256, OfPiecesIsThatOfTheWhole) {
  const std::string text(1000, 'x');
  for (const size_t cut : {0, 1, 63, 64, 65, 1000}) {
    Sha256 hash;
    hash.update(as_byte_span(std::string_view(text).substr(0, cut)));
    hash.update(as_byte_span(std::string_view(text).substr(cut)));
    EXPECT_EQ(to_hex(hash.finish()), sha(text)) << "cut at " << cut;
  }
}

INSTANTIATE_TEST_SUITE_P(Checksum, EveryCode,
                         testing::Values(ChecksumCode::kFastest, ChecksumCode::kPortable));

TEST(Checksum, FastCodeAgreesWithPortableCodeAtEveryLengthAndAlignment) {
  std::vector<std::byte> bytes(400);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * i + 3 * i);
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t length = 0; begin + length <= bytes.size(); ++length) {
      const auto part = std::span(bytes).subspan(begin, length);
      ASSERT_EQ(crc32c(part), crc32c(part, 0, ChecksumCode::kPortable)) << begin << " " << length;
    }
  }
}

}  // namespace
}  // namespace switchyard
