#include "trainer/bench_exchange.h"

#include <algorithm>
#include <chrono>
#include <functional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/seconds.h"
#include "parallel/mpi/direct.h"

namespace switchyard::trainer {
namespace {

using parallel::ReduceOp;

// A token's row in bfloat16 at d_model 1024.
constexpr int64_t kRowBytes = 2048;
constexpr int64_t kSizes[] = {16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20};
// Bytes that a round moves at least, so that a clock's grain and a barrier's end do not count.
constexpr int64_t kRoundBytes = 4 << 20;

struct Round {
  double direct = 0, ours = 0;
};

// Seconds of one call, as the slowest rank sees it.
double time_calls(const std::function<void()>& call, int calls, parallel::Communicator& world) {
  world.barrier("before a round");
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < calls; ++i) call();
  return world.all_reduce(seconds_since(start) / calls, ReduceOp::kMax, "time of a round");
}

// Whoever goes first may find colder memory, so the two take turns at it.
std::vector<Round> run_rounds(const std::function<void()>& direct,
                              const std::function<void()>& ours, int calls, int rounds,
                              parallel::Communicator& world) {
  std::vector<Round> results;
  for (int i = -1; i < rounds; ++i) {  // the first is for warming up
    Round round;
    if (i % 2 == 0) round.direct = time_calls(direct, calls, world);
    round.ours = time_calls(ours, calls, world);
    if (i % 2 != 0) round.direct = time_calls(direct, calls, world);
    if (i >= 0) results.push_back(round);
  }
  return results;
}

// The value below which `share` of them lie.
double quantile(std::vector<double> values, double share) {
  const auto at = values.begin() + static_cast<int64_t>(share * static_cast<double>(values.size()));
  std::ranges::nth_element(values, at);
  return *at;
}

ExchangeTiming summarize(const char* operation, int64_t bytes, const std::vector<Round>& rounds) {
  std::vector<double> direct, ours, ratios;
  for (const Round& round : rounds) {
    direct.push_back(round.direct);
    ours.push_back(round.ours);
    ratios.push_back(round.direct / round.ours);
  }
  return {operation,
          bytes,
          quantile(direct, 0.5),
          quantile(ours, 0.5),
          quantile(ratios, 0.5),
          quantile(ratios, 0.25),
          quantile(ratios, 0.75)};
}

}  // namespace

ExchangeBench bench_exchange(parallel::Communicator& world, int rounds) {
  const parallel::DirectMpi direct;
  const int ranks = world.size();
  ExchangeBench bench{ranks, rounds, {}};
  for (const int64_t size : kSizes) {
    const int64_t rows = std::max<int64_t>(1, size / kRowBytes / ranks);
    const std::vector<int64_t> each(ranks, rows);
    const parallel::ExchangeCounts counts{each, each, kRowBytes};
    std::vector<std::byte> send(counts.bytes_out()), receive(counts.bytes_in());
    const int calls = static_cast<int>(std::max<int64_t>(1, kRoundBytes / size));
    bench.timings.push_back(summarize(
        "all-to-all", counts.bytes_out(),
        run_rounds([&] { direct.all_to_all_v(send.data(), receive.data(), counts); },
                   [&] { world.all_to_all_v(send.data(), receive.data(), counts, "exchange"); },
                   calls, rounds, world)));
  }
  for (const int64_t size : kSizes) {
    std::vector<float> values(size / sizeof(float), 0.0F);
    const auto count = static_cast<int>(values.size());
    const int calls = static_cast<int>(std::max<int64_t>(1, kRoundBytes / size));
    bench.timings.push_back(
        summarize("all-reduce", size,
                  run_rounds([&] { direct.all_reduce(values.data(), count); },
                             [&] { world.all_reduce<float>(values, ReduceOp::kSum, "sum"); }, calls,
                             rounds, world)));
  }
  return bench;
}

std::string render(const ExchangeBench& bench, bool json) {
  if (json) {
    auto rows = nlohmann::ordered_json::array();
    for (const ExchangeTiming& t : bench.timings)
      rows.push_back({{"operation", t.operation},
                      {"bytes", t.bytes},
                      {"mpi_seconds", t.direct},
                      {"seconds", t.ours},
                      {"ratio", t.ratio},
                      {"ratio_quartiles", {t.lower, t.upper}}});
    return nlohmann::ordered_json{
               {"ranks", bench.ranks}, {"rounds", bench.rounds}, {"timings", rows}}
               .dump(2) +
           "\n";
  }
  std::string text = fmt::format(
      "{} ranks, {} rounds of each; a ratio above 1 is faster than MPI's own call\n"
      "{:<11} {:>9} {:>12} {:>12} {:>9}   {}\n",
      bench.ranks, bench.rounds, "", "KiB/rank", "MPI", "here", "MPI/here", "half of the rounds");
  for (const ExchangeTiming& t : bench.timings)
    text += fmt::format("{:<11} {:>9} {:>9.1f} us {:>9.1f} us {:>9.2f}   {:.2f} to {:.2f}\n",
                        t.operation, t.bytes >> 10, 1e6 * t.direct, 1e6 * t.ours, t.ratio, t.lower,
                        t.upper);
  return text;
}

}  // namespace switchyard::trainer
