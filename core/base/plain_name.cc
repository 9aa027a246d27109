#include "core/base/plain_name.h"

#include <algorithm>

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

}  // namespace switchyard
