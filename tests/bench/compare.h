#pragma once
// An operation against its limit in the same run: each iteration times the limit and then the
// operation, so that a busy machine slows both.

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include <benchmark/benchmark.h>

namespace switchyard {

using Action = std::function<void()>;

inline double seconds_of(const Action& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// The counter "fraction" is the median over iterations of limit / operation (1: as fast as the
// limit); Time is the operation's.
inline void compare(benchmark::State& state, const Action& limit, const Action& action) {
  for (int warm_up = 0; warm_up < 2; ++warm_up) seconds_of(limit), seconds_of(action);
  std::vector<double> fractions, limits;
  for (auto _ : state) {
    limits.push_back(seconds_of(limit));
    const double seconds = seconds_of(action);
    state.SetIterationTime(seconds);
    fractions.push_back(limits.back() / seconds);
  }
  state.counters["fraction"] = median(fractions);
  state.counters["limit_ms"] = 1e3 * median(limits);
}

}  // namespace switchyard
