#pragma once
// Time that has passed, by the clock that nobody sets.

#include <chrono>

namespace switchyard {

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace switchyard
