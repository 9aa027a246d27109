#include "core/base/start_thread.h"

#include <sys/resource.h>

#include <fstream>
#include <latch>
#include <vector>

#include "core/base/errors.h"

namespace switchyard {
namespace {

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

void throw_no_thread(const std::string& what, const std::error_code& cause) {
  throw ConfigError(fmt::format(
      "cannot start {}: {}; this user may have {} processes and threads (`ulimit -u`), this "
      "control "
      "group {}, of which {} are in use (pids.max and pids.current); raise the limit, end other "
      "programs, or use fewer threads (runtime.threads, --threads) or ranks",
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
