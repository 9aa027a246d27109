#include "core/base/threads.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <latch>
#include <limits>

#include "core/base/errors.h"

namespace switchyard {
namespace {

bool has_core(const CoreMask& mask, size_t core) { return core < mask.size() && mask[core] == '1'; }

// The first word of a file of the control group, of version 2 or 1; "an unknown number" where there
// is none.
std::string of_group(const char* file) {
  std::string word;
  for (const char* folder : {"/sys/fs/cgroup/", "/sys/fs/cgroup/pids/"})
    if (std::ifstream(std::string(folder) + file) >> word) return word;
  return "an unknown number";
}

std::string user_limit() {
  struct rlimit limit {};
  const bool is_known = ::getrlimit(RLIMIT_NPROC, &limit) == 0;
  if (is_known && limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return is_known ? fmt::format("{}", limit.rlim_cur) : "unknown";
}

}  // namespace

CoreMask own_core_mask() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return "1";
  CoreMask mask;
  for (size_t core = 0; core < CPU_SETSIZE; ++core) mask += CPU_ISSET(core, &set) ? '1' : '0';
  mask.resize(mask.rfind('1') + 1);
  return mask;
}

double core_quota() {
  std::ifstream quota("/sys/fs/cgroup/cpu.max");  // cgroup v2: "max 100000" or "200000 100000"
  std::string limit;
  double period = 0;
  if (quota >> limit >> period && limit != "max" && period > 0) return std::stod(limit) / period;
  return std::numeric_limits<double>::infinity();
}

int available_cores() { return fair_threads({own_core_mask()}, 0, core_quota()); }

int fair_threads(const std::vector<CoreMask>& masks, size_t own, double quota) {
  double cores = 0;
  for (size_t core = 0; core < masks[own].size(); ++core) {
    if (!has_core(masks[own], core)) continue;
    cores += 1.0 / static_cast<double>(std::ranges::count_if(
                       masks, [&](const CoreMask& mask) { return has_core(mask, core); }));
  }
  cores = std::min(cores, quota / static_cast<double>(masks.size()));
  constexpr double kRounding = 1e-6;  // three thirds are a core
  return std::max(1, static_cast<int>(cores + kRounding));
}

void throw_no_thread(const std::string& what, const std::error_code& cause) {
  throw ConfigError(fmt::format(
      "cannot start {}: {}; this user may have {} processes and threads (`ulimit -u`), this "
      "control group {}, of which {} are in use (pids.max and pids.current); raise the limit, end "
      "other programs, or use fewer threads (runtime.threads, --threads) or ranks",
      what, cause.message(), user_limit(), of_group("pids.max"), of_group("pids.current")));
}

void try_threads(int count) {
  std::latch done(1);
  std::vector<std::jthread> threads;
  try {
    for (int i = 0; i < count; ++i)
      threads.push_back(start_thread(fmt::format("thread {} of the {} that compute", i + 1, count),
                                     [&done] { done.wait(); }));
  } catch (...) {
    done.count_down();
    throw;
  }
  done.count_down();
}

}  // namespace switchyard
