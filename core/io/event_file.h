#pragma once
// Scalars for TensorBoard: files of TensorFlow's records (tensorboard/summary/writer), each of
// which is a message of core/io/event.proto.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/io/best_effort_file.h"

namespace switchyard {

struct EventScalar {
  std::string tag;
  float value;  // NaN and infinity are shown by TensorBoard as such
};

// Serialized Event messages; `wall_time` in seconds since 1970.
[[nodiscard]] std::string encode_file_version(double wall_time);
[[nodiscard]] std::string encode_scalars(double wall_time, int64_t step,
                                         std::span<const EventScalar> scalars);

// u64 length | masked CRC-32C of the length | payload | masked CRC-32C of the payload.
[[nodiscard]] std::string frame_event(std::string_view payload);

// One new file per process start; TensorBoard joins all files of a folder, so a resumed run goes on
// in another one. A write that fails does not throw (see BestEffortFile).
class EventFile {
 public:
  explicit EventFile(const std::string& directory);

  const std::string& path() const { return file_.path(); }
  void add_scalars(int64_t step, std::span<const EventScalar> scalars);

 private:
  BestEffortFile file_;
};

}  // namespace switchyard
