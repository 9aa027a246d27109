#include "core/base/threads.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <limits>

#include <gtest/gtest.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

int threads(const std::vector<CoreMask>& masks, size_t own, double quota = kNoQuota) {
  return fair_threads(masks, own, quota);
}

TEST(Threads, OfARankAloneAreItsCores) {
  EXPECT_EQ(threads({"11111111"}, 0), 8);
  EXPECT_EQ(threads({"0101"}, 0), 2);
}

TEST(Threads, OfARankThatOwnsItsCoresAreAllOfThem) {
  EXPECT_EQ(threads({"1111111100000000", "0000000011111111"}, 0), 8);
  EXPECT_EQ(threads({"1111111100000000", "0000000011111111"}, 1), 8);
  EXPECT_EQ(threads({"1", "01"}, 1), 1);
}

TEST(Threads, OfRanksThatShareCoresAreTheirPart) {
  EXPECT_EQ(threads({"11111111", "11111111"}, 1), 4);
  EXPECT_EQ(threads({"11111111", "11111111", "11111111"}, 0), 2);
  // Three cores to itself, and half of one.
  EXPECT_EQ(threads({"1111", "0001"}, 0), 3);
  EXPECT_EQ(threads({"111111", "111111", "111111"}, 2), 2);  // six thirds
}

TEST(Threads, AreAtLeastOne) {
  EXPECT_EQ(threads({"1", "1", "1"}, 0), 1);
  EXPECT_EQ(threads({"1111"}, 0, 0.25), 1);
}

TEST(Threads, KeepToTheQuotaThatTheRanksShare) {
  EXPECT_EQ(threads({"1111111111111111", "1111111111111111"}, 0, 6), 3);
  EXPECT_EQ(threads({"11110000", "00001111"}, 0, 2), 1);
  EXPECT_EQ(threads({"1111"}, 0, 100), 4);
}

TEST(Threads, OfThisProcessAreWithinItsMask) {
  const CoreMask mask = own_core_mask();
  ASSERT_FALSE(mask.empty());
  EXPECT_EQ(mask.back(), '1');
  EXPECT_GE(available_cores(), 1);
  EXPECT_LE(available_cores(), static_cast<int>(mask.size()));
}

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
