#include "parallel/named_sums.h"

#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
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

TEST(NamedSums, RefuseNamesThatRanksDoNotShareAndSayWhich) {
  for (const std::string other : {"mtp", "error mtp"}) {  // as many, and more
    ThreadGroup(2).run([&](Communicator& ranks) {
      NamedSums sums;
      std::istringstream names(ranks.rank() == 0 ? "error" : other);
      for (std::string name; names >> name;) sums[name] += {1, 1};
      try {
        all_reduce(sums, ranks, "sums");
        ADD_FAILURE() << "expected a CheckError";
      } catch (const CheckError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("'sums' of world"));
        EXPECT_THAT(error.what(), testing::HasSubstr("rank 0: " + other + " in place of error"));
      }
    });
  }
}

TEST(NamedSums, AddUpWhereRanksLackSomeOfTheNames) {
  ThreadGroup(3).run([](Communicator& ranks) {
    NamedSums sums;
    if (ranks.rank() == 2) sums["loss"] += {1.5, 3};
    if (ranks.rank() > 0) sums["text bytes"] += {1};
    all_reduce_union(sums, ranks, "sums");
    EXPECT_EQ(sums.size(), 2);
    EXPECT_EQ(sums.at("loss").mean(), 0.5);
    EXPECT_EQ(sums.at("text bytes").total, 2);
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
