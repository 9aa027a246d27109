#include "core/io/event_file.h"

#include <filesystem>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/io/bytes.h"
#include "core/io/checksum.h"
#include "core/io/file_system.h"
#include "tests/core/io/temp_folder.h"

namespace switchyard {
namespace {

using testing::StartsWith;

// The inverse of the mask, as TensorFlow's crc32c.h writes it.
uint32_t unmasked(uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8u;
  return (rotated >> 17) | (rotated << 15);
}

// Splits a file into its payloads and checks both checksums of each record.
std::vector<std::string> payloads_of(const std::string& path) {
  const std::string bytes = read_text_file(path, 1 << 20);
  ByteReader reader(as_byte_span(bytes), path, raise<DataError>);
  std::vector<std::string> payloads;
  while (reader.remaining() > 0) {
    const auto length = reader.read<uint64_t>("length");
    EXPECT_EQ(unmasked(reader.read<uint32_t>("length crc")),
              crc32c(std::as_bytes(std::span(&length, 1))));
    const auto payload = reader.take(length, "payload");
    EXPECT_EQ(unmasked(reader.read<uint32_t>("payload crc")), crc32c(payload));
    payloads.emplace_back(reinterpret_cast<const char*>(payload.data()), payload.size());
  }
  return payloads;
}

// Keys and lengths worked out by hand from event.proto and summary.proto.
TEST(EncodeEvent, GivesTheGoldenBytesOfTheFirstEvent) {
  const std::string one_and_a_half("\0\0\0\0\0\0\xf8\x3f", 8);
  EXPECT_EQ(encode_file_version(1.5), "\x09" + one_and_a_half +
                                          "\x1a\x0d"
                                          "brain.Event:2");
}

TEST(EncodeEvent, GivesTheGoldenBytesOfScalars) {
  const std::string one_and_a_half("\0\0\0\0\0\0\xf8\x3f", 8);
  const std::string loss = std::string("\x0a\x04loss\x15\0\0\x80\x3f", 11);
  const std::string lr = std::string("\x0a\x02lr\x15\0\0\0\xc0", 9);
  const std::vector<EventScalar> scalars = {{"loss", 1.0f}, {"lr", -2.0f}};
  EXPECT_EQ(
      encode_scalars(1.5, 300, scalars),
      "\x09" + one_and_a_half + "\x10\xac\x02" + "\x2a\x18" + "\x0a\x0b" + loss + "\x0a\x09" + lr);
}

TEST(EncodeEvent, WritesLengthsPast127AsVarints) {
  const std::vector<EventScalar> scalars = {{std::string(200, 't'), 0.0f}};
  const std::string event = encode_scalars(0, 0, scalars);
  EXPECT_EQ(event.substr(11, 9), "\x2a\xd3\x01\x0a\xd0\x01\x0a\xc8\x01");
}

TEST(EncodeEvent, UsesOneVarintByteUpTo127) {
  EXPECT_EQ(encode_scalars(0, 127, {}).substr(9), std::string("\x10\x7f\x2a\0", 4));
  EXPECT_EQ(encode_scalars(0, 128, {}).substr(9), std::string("\x10\x80\x01\x2a\0", 5));
}

// The header that every TensorBoard file begins with: length 24 and its masked checksum.
TEST(FrameEvent, GivesTheWellKnownHeaderOfAVersionRecord) {
  const std::string record = frame_event(encode_file_version(0));
  EXPECT_EQ(record.size(), 8u + 4 + 24 + 4);
  EXPECT_EQ(record.substr(0, 12), std::string("\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22", 12));
}

TEST(EventFile, HoldsTheVersionThenOneRecordPerStep) {
  TempFolder folder;
  EventFile file(folder.path());
  const std::vector<EventScalar> scalars = {{"loss", 2.5f}};
  file.add_scalars(1, scalars);
  file.add_scalars(2, scalars);
  EXPECT_THAT(std::filesystem::path(file.path()).filename().string(),
              StartsWith("events.out.tfevents."));
  const auto payloads = payloads_of(file.path());
  ASSERT_EQ(payloads.size(), 3u);
  const size_t behind_time = 9;
  EXPECT_EQ(payloads[0].substr(behind_time), encode_file_version(0).substr(behind_time));
  EXPECT_EQ(payloads[2].substr(behind_time), encode_scalars(0, 2, scalars).substr(behind_time));
}

}  // namespace
}  // namespace switchyard
