#pragma once
// Large numbers for people.

#include <cstdint>
#include <string>

namespace switchyard {

// 1234567 -> "1,234,567". Requires value >= 0.
inline std::string grouped(int64_t value) {
  std::string digits = std::to_string(value);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

}  // namespace switchyard
