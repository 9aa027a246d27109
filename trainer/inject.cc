#include "trainer/inject.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <iterator>
#include <limits>
#include <regex>
#include <stdexcept>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"

namespace switchyard::trainer {
namespace {

// In the order of FaultKind.
constexpr std::string_view kNames[] = {"die", "segfault",  "hang",       "throw",
                                       "nan", "disk_full", "short_write"};

Fault parse_fault(const std::string& text, int num_ranks) {
  static const std::regex pattern("([a-z_]+)@([0-9]{1,18}):([0-9]{1,9})");
  if (std::smatch part; std::regex_match(text, part, pattern)) {
    const auto kind = std::ranges::find(kNames, part[1].str());
    const int64_t step = std::stoll(part[2]);
    const int rank = std::stoi(part[3]);
    if (kind != std::end(kNames) && step > 0 && rank < num_ranks)
      return {static_cast<FaultKind>(kind - std::begin(kNames)), step, rank};
  }
  throw ConfigError(fmt::format(
      "--inject: expected KIND@STEP:RANK with a KIND of {}, a STEP from 1 and a RANK below {}, "
      "found '{}'",
      fmt::join(kNames, ", "), num_ranks, text));
}

}  // namespace

std::vector<Fault> parse_faults(const std::vector<std::string>& texts, int num_ranks) {
  std::vector<Fault> faults;
  for (const std::string& text : texts) faults.push_back(parse_fault(text, num_ranks));
  return faults;
}

FaultInjector::FaultInjector(const std::vector<Fault>& faults, int rank) {
  std::ranges::copy_if(faults, std::back_inserter(faults_),
                       [&](const Fault& fault) { return fault.rank == rank; });
}

bool FaultInjector::has(FaultKind kind, int64_t step) const {
  return std::ranges::any_of(
      faults_, [&](const Fault& fault) { return fault.kind == kind && fault.step == step; });
}

void FaultInjector::begin_step(int64_t step) const {
  if (has(FaultKind::kDie, step)) std::raise(SIGKILL);
  if (has(FaultKind::kSegfault, step)) std::raise(SIGSEGV);
  if (has(FaultKind::kThrow, step)) throw std::runtime_error("injected exception");
  while (has(FaultKind::kHang, step)) ::pause();
}

double FaultInjector::loss_factor(int64_t step) const {
  return has(FaultKind::kNan, step) ? std::numeric_limits<double>::quiet_NaN() : 1.0;
}

FileStepHook FaultInjector::during_save(int64_t step) const {
  if (has(FaultKind::kDiskFull, step)) {
    return [](FileStep file_step, const std::string& path) {
      if (file_step == FileStep::kWrite) throw_storage_error("write " + path, path, ENOSPC);
    };
  }
  if (has(FaultKind::kShortWrite, step)) {
    return [](FileStep file_step, const std::string& path) {
      if (file_step != FileStep::kSync || !path.ends_with(".safetensors")) return;
      std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    };
  }
  return {};
}

}  // namespace switchyard::trainer
