#include "core/base/threads.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <limits>

namespace switchyard {
namespace {

bool has_core(const CoreMask& mask, size_t core) { return core < mask.size() && mask[core] == '1'; }

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

}  // namespace switchyard
