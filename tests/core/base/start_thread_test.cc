#include "core/base/start_thread.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <iostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

TEST(StartThread, RunsTheWork) {
  int done = 0;
  start_thread("a thread", [&] { done = 1; }).join();
  EXPECT_EQ(done, 1);
  try_threads(0);
  try_threads(20);
}

#ifndef __SANITIZE_ADDRESS__  // which takes address space for itself
// Leaves room for a few stacks, and prints what is then said of a hundred threads.
void try_threads_in_little_memory() {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const auto limit = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + (int64_t{200} << 20));
  const struct rlimit limits { limit, limit };
  setrlimit(RLIMIT_AS, &limits);
  try {
    try_threads(100);
  } catch (const ConfigError& error) {
    std::cerr << error.what();
    _exit(2);
  }
  _exit(0);
}

TEST(StartThread, NamesWhatCannotBeStartedAndTheLimits) {
  EXPECT_EXIT(try_threads_in_little_memory(), testing::ExitedWithCode(2),
              "cannot start thread [0-9]+ of the 100 that compute: Resource temporarily "
              "unavailable; this user may have .*ulimit -u.*pids.max.*runtime.threads");
}
#endif

}  // namespace
}  // namespace switchyard
