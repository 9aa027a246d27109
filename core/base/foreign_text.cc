#include "core/base/foreign_text.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

namespace switchyard {

bool is_plain_name(std::string_view name) {
  constexpr size_t kLongest = 255;
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  };
  return !name.empty() && name.size() <= kLongest && name[0] != '.' && name[0] != '-' &&
         std::ranges::all_of(name, is_allowed);
}

std::string in_quotes(std::string_view text, size_t limit) {
  std::string out = "\"";
  for (const char c : text.substr(0, limit)) {
    const bool is_plain = c >= 0x20 && c < 0x7F;
    out += is_plain ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
  }
  return out + (text.size() > limit ? "...\"" : "\"");
}

}  // namespace switchyard
