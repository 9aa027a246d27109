#include "core/io/event_file.h"

#include <unistd.h>

#include <bit>
#include <chrono>

#include <fmt/format.h>

#include "core/base/process.h"
#include "core/io/bytes.h"
#include "core/io/checksum.h"

namespace switchyard {
namespace {

// Protobuf's wire types, the low three bits of a field's key.
enum class Wire : uint8_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

template <typename T>
void append_fixed(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

// Fields below 16 only: their key is one byte.
void append_key(std::string& out, int field, Wire wire) {
  out += static_cast<char>(field << 3 | static_cast<int>(wire));
}

void append_bytes(std::string& out, int field, std::string_view bytes) {
  append_key(out, field, Wire::kLength);
  append_varint(out, bytes.size());
  out += bytes;
}

std::string begin_event(double wall_time) {
  std::string event;
  append_key(event, 1, Wire::kFixed64);
  append_fixed(event, wall_time);
  return event;
}

// A CRC over data that holds CRCs is weak; TensorFlow's records therefore store it rotated.
uint32_t masked_crc(std::string_view text) {
  const uint32_t crc = crc32c(as_byte_span(text));
  return std::rotr(crc, 15) + 0xa282ead8u;
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string new_file_name(const std::string& directory) {
  return fmt::format("{}/events.out.tfevents.{:010d}.{}.{}", directory,
                     static_cast<int64_t>(seconds_since_1970()), host_name(), ::getpid());
}

}  // namespace

std::string encode_file_version(double wall_time) {
  std::string event = begin_event(wall_time);
  append_bytes(event, 3, "brain.Event:2");
  return event;
}

std::string encode_scalars(double wall_time, int64_t step, std::span<const EventScalar> scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) {
    std::string entry;
    append_bytes(entry, 1, tag);
    append_key(entry, 2, Wire::kFixed32);
    append_fixed(entry, value);
    append_bytes(summary, 1, entry);
  }
  std::string event = begin_event(wall_time);
  append_key(event, 2, Wire::kVarint);
  append_varint(event, static_cast<uint64_t>(step));
  append_bytes(event, 5, summary);
  return event;
}

std::string frame_event(std::string_view payload) {
  std::string record;
  append_fixed(record, uint64_t{payload.size()});
  append_fixed(record, masked_crc(record));
  record += payload;
  append_fixed(record, masked_crc(payload));
  return record;
}

EventFile::EventFile(const std::string& directory) : file_(new_file_name(directory)) {
  file_.append(frame_event(encode_file_version(seconds_since_1970())));
}

void EventFile::add_scalars(int64_t step, std::span<const EventScalar> scalars) {
  file_.append(frame_event(encode_scalars(seconds_since_1970(), step, scalars)));
}

}  // namespace switchyard
