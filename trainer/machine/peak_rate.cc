#include "trainer/machine/peak_rate.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <span>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/log.h"
#include "core/base/seconds.h"
#include "core/base/threads.h"
#include "core/io/file_system.h"
#include "core/tensor/aten.h"
#include "core/tensor/gemm.h"

namespace switchyard::trainer {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr double kLong = 0.8, kShort = 0.08;  // seconds of a measurement
constexpr int64_t kFreshSeconds = 600;
constexpr double kImpossible = 1e20;  // FLOP/s that no job has

// Names a rate by everything that it depends on.
std::string key_of(at::ScalarType type, int ranks, int threads = at::get_num_threads()) {
  const GemmPaths& paths = gemm_paths();
  const GemmPath path = type == at::kFloat      ? paths.float32
                        : type == at::kBFloat16 ? paths.bfloat16
                                                : GemmPath::kAten;
  constexpr const char* kNames[] = {"ATen", "oneDNN", "float32"};  // in the order of GemmPath
  return fmt::format("{}; {} cores; {} by {}; {} x {} threads", processor_name(), available_cores(),
                     at::toString(type), kNames[static_cast<int>(path)], ranks, threads);
}

// FLOP/s: the best of many products, which is what the machine can do, not what its neighbours
// leave.
double measure(at::ScalarType type, double seconds) {
  double best = 0;
  for (const auto& [m, k, n] : {std::array{512, 512, 2048}, std::array{1024, 1024, 1024}}) {
    const at::Tensor a = at::ones({m, k}, type), b = at::ones({k, n}, type),
                     out = at::empty({m, n}, type);
    matmul(a, b, out);  // builds the kernel
    for (const auto start = Clock::now(); seconds_since(start) < seconds / 2;) {
      const auto begin = Clock::now();
      matmul(a, b, out);
      best = std::max(best, 2.0 * m * k * n / seconds_since(begin));
    }
  }
  return best;
}

struct Peak {
  double rate = 0;   // FLOP/s; 0: not known
  int64_t time = 0;  // when it was last measured, seconds since 1970

  bool is_fresh() const {
    const int64_t age = std::time(nullptr) - time;
    return rate > 0 && age >= 0 && age < kFreshSeconds;
  }
};

// An object of {"flops_per_second", "measured_at"} by key; whatever cannot be read counts as empty.
Json read_peaks() {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(peak_file(), ignored)) return Json::object();
  Json peaks = Json::parse(std::ifstream(peak_file()), nullptr, /*allow_exceptions=*/false);
  return peaks.is_object() ? peaks : Json::object();
}

Peak known_peak(const std::string& key) {
  try {
    const Json peak = read_peaks().at(key);
    const double rate = peak.at("flops_per_second");
    return {rate > 0 && rate < kImpossible ? rate : 0, peak.at("measured_at")};
  } catch (const Json::exception&) {
    return {};
  }
}

// Another process may do the same at the same time: one of the two rates is then lost until it is
// measured again.
void keep_peak(const std::string& key, double rate) {
  const std::string path = peak_file();
  if (path.empty()) return;
  try {
    Json peaks = read_peaks();
    peaks[key] = {{"flops_per_second", rate}, {"measured_at", std::time(nullptr)}};
    const std::string text = peaks.dump(2) + "\n";
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_file_atomically(FileSystem(), path, std::as_bytes(std::span(text)));
  } catch (const std::exception& error) {
    warn("the rate of matrix products could not be kept in {}: {}", path, error.what());
  }
}

}  // namespace

std::string peak_file() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (cache && *cache) return fmt::format("{}/switchyard/peak_rates.json", cache);
  return home && *home ? fmt::format("{}/.cache/switchyard/peak_rates.json", home) : "";
}

double peak_rate(at::ScalarType type, parallel::Communicator& world) {
  const bool decides = world.rank() == 0;
  const std::string key = key_of(type, world.size());
  Peak known = decides ? known_peak(key) : Peak();
  world.broadcast(&known, sizeof known, 0, "peak rate");
  if (known.is_fresh()) return known.rate;
  const double again = world.all_reduce(measure(type, known.rate > 0 ? kShort : kLong),
                                        parallel::ReduceOp::kSum, "peak rate");
  const double best = std::max(known.rate, again);
  if (decides) keep_peak(key, best);
  return best;
}

double known_peak_rate(at::ScalarType type, int ranks, int threads) {
  const double rate = known_peak(key_of(type, ranks, threads)).rate;
  return rate > 0 ? rate : known_peak(key_of(type, 1, ranks * threads)).rate;
}

double measure_peak_rate(at::ScalarType type) {
  const double rate = measure(type, kLong);
  keep_peak(key_of(type, 1), rate);
  return rate;
}

}  // namespace switchyard::trainer
