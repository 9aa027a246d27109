#pragma once
// Text in a buffer of fixed size, for handlers of signals, which may neither allocate nor lock.

#include <array>
#include <cstddef>
#include <string_view>

#include <fmt/format.h>

namespace switchyard::parallel {

template <size_t kSize>
class FixedText {
 public:
  // Appends what fits. `format` is a FMT_STRING. fmt::format_to_n neither allocates nor locks for
  // whole numbers and texts; for others it may.
  template <typename Format, typename... Values>
  void add(Format format, const Values&... values) {
    const auto end = fmt::format_to_n(text_.data() + size_, kSize - 1 - size_, format, values...);
    size_ = end.out - text_.data();
    text_[size_] = '\0';
  }

  std::string_view view() const { return {text_.data(), size_}; }
  const char* c_str() const { return text_.data(); }

 private:
  std::array<char, kSize> text_{};
  size_t size_ = 0;
};

}  // namespace switchyard::parallel
