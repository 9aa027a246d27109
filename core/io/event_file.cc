#include "core/io/event_file.h"

#include <unistd.h>

#include <bit>
#include <chrono>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/base/process.h"
#include "core/io/bytes.h"
#include "core/io/checksum.h"
#include "core/io/event.pb.h"

namespace switchyard {
namespace {

std::string serialized(const tensorboard::Event& event) {
  std::string bytes;
  SY_CHECK(event.SerializeToString(&bytes), "an event of TensorBoard cannot be serialized");
  return bytes;
}

template <typename T>
void append_fixed(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
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
  tensorboard::Event event;
  event.set_wall_time(wall_time);
  event.set_file_version("brain.Event:2");
  return serialized(event);
}

std::string encode_scalars(double wall_time, int64_t step, std::span<const EventScalar> scalars) {
  tensorboard::Event event;
  event.set_wall_time(wall_time);
  event.set_step(step);
  tensorboard::Summary& summary = *event.mutable_summary();
  for (const auto& [tag, number] : scalars) {
    tensorboard::Summary::Value& value = *summary.add_value();
    value.set_tag(tag);
    value.set_simple_value(number);
  }
  return serialized(event);
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
