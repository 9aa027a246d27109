#include "parallel/named_sums.h"

#include <gtest/gtest.h>

#include "parallel/thread.h"

namespace switchyard::parallel {
namespace {

TEST(NamedSums, AddUpOverRanksByName) {
  ThreadGroup(3).run([](Communicator& ranks) {
    const double rank = ranks.rank();
    NamedSums sums;
    sums["error"] += {0.5 * rank, 2};
    sums["error"] += {1, 1};
    sums["mtp"] += {rank + 1};
    all_reduce(sums, ranks, "sums");
    EXPECT_EQ(sums.at("error").total, 4.5);
    EXPECT_EQ(sums.at("error").mean(), 0.5);  // of 9
    EXPECT_EQ(sums.at("mtp").mean(), 6);      // of shares
  });
}

TEST(NamedSums, GiveOneAway) {
  NamedSums sums;
  sums["loss"] += {3, 2};
  EXPECT_EQ(take(sums, "loss").mean(), 1.5);
  EXPECT_EQ(take(sums, "loss").mean(), 0);
  EXPECT_TRUE(sums.empty());
}

}  // namespace
}  // namespace switchyard::parallel
