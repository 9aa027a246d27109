#include "parallel/mpi/mpi.h"

#include <sched.h>

#include <algorithm>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/base/threads.h"
#include "parallel/world.h"
#include "tests/parallel/communicator_suite.h"
#include "tests/testing/dist.h"

namespace switchyard::parallel {
namespace {

using switchyard::testing::session;
using switchyard::testing::world;
using ::testing::HasSubstr;

class MpiConforms : public ::testing::TestWithParam<suite::Behaviour> {};

TEST_P(MpiConforms, ToTheSuite) { GetParam().check(world()); }

INSTANTIATE_TEST_SUITE_P(Suite, MpiConforms, ::testing::ValuesIn(suite::behaviours()),
                         [](const auto& test) { return test.param.name; });

// The suite again, with a limit on MPI's counts so low that blocks go as types of several parts.
class MpiWithLowCountLimitConforms : public MpiConforms {};

TEST_P(MpiWithLowCountLimitConforms, ToTheSuite) {
  const auto limited = session().make_world({.timeout_seconds = 60, .max_count = 300});
  GetParam().check(*limited);
}

INSTANTIATE_TEST_SUITE_P(Suite, MpiWithLowCountLimitConforms,
                         ::testing::ValuesIn(suite::behaviours()),
                         [](const auto& test) { return test.param.name; });

class CheckedMpiConforms : public MpiConforms {};

TEST_P(CheckedMpiConforms, ToTheSuite) {
  const auto checked = session().make_world({.timeout_seconds = 60, .is_checked = true});
  GetParam().check(*checked);
}

INSTANTIATE_TEST_SUITE_P(Suite, CheckedMpiConforms, ::testing::ValuesIn(suite::behaviours()),
                         [](const auto& test) { return test.param.name; });

TEST(Mpi, RefusesMoreRowsThanMpiCounts) {
  const auto limited = session().make_world({.timeout_seconds = 60, .max_count = 10});
  const int n = world().size();
  std::vector<char> data(11 * n);
  const ExchangeCounts counts{std::vector<int64_t>(n, 11), std::vector<int64_t>(n, 11), 1};
  EXPECT_THAT([&] { limited->all_to_all_v(data.data(), data.data(), counts, "dispatch"); },
              ::testing::ThrowsMessage<CommError>(
                  HasSubstr(fmt::format("{} rows at once, but MPI counts at most 10", 11 * n))));
}

TEST(Mpi, RefusesSizesThatRanksDoNotAgreeOn) {
  const auto other = session().make_world({.timeout_seconds = 5});
  std::vector<int64_t> all(3 * other->size());
  const std::vector<int64_t> own(3);
  std::string text;
  try {
    other->all_gather(own.data(), all.data(), other->rank() == 0 ? 16 : 24, "eval");
  } catch (const CommError& error) {
    text = error.what();
  }
  // Rank 0 expects less than comes; what the others see depends on who is their neighbour.
  if (other->rank() == 0 && other->size() > 1) {
    EXPECT_THAT(text, HasSubstr("all_gather #1 'eval' of world, 16 B out"));
  }
  world().barrier("all have failed");
}

void pin(const CoreMask& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t core = 0; core < cores.size(); ++core) {
    if (cores[core] == '1') CPU_SET(core, &set);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

// Ranks bound to one core by mpirun, and one that has the machine.
TEST(Mpi, DividesTheCoresThatSeveralRanksMayUse) {
  const CoreMask all = own_core_mask(), first = all.substr(0, all.find('1') + 1);
  std::vector<CoreMask> masks(world().size(), all);
  const auto expected = [&] {
    return switchyard::fair_threads(masks, world().rank(), core_quota());
  };
  EXPECT_EQ(fair_threads(world()), expected());
  std::fill(masks.begin() + 1, masks.end(), first);
  pin(masks[world().rank()]);
  EXPECT_EQ(fair_threads(world()), expected());
  pin(all);
}

TEST(Mpi, CountsTheRanksOfThisMachine) { EXPECT_EQ(session().local_size(), world().size()); }

}  // namespace
}  // namespace switchyard::parallel
