#include "trainer/log/rank_times.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parallel/thread.h"

namespace switchyard::trainer {
namespace {

using parallel::Phase;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

config::Log looking_every(int64_t steps) {
  config::Log log;
  log.set_straggler_factor(1.5);
  log.set_straggler_steps(steps);
  return log;
}

TEST(Stragglers, AreThoseThatWorkLongerThanTheMedianByTheFactor) {
  const std::vector<std::string> hosts{"a", "a", "b", "b"};
  EXPECT_THAT(describe_stragglers({1, 1.4, 3, 1}, looking_every(50), hosts),
              ElementsAre("straggler: rank 2 (host b) has worked 3.000 s a step over the last 50, "
                          "3.0 times as long as the median rank"));
  EXPECT_THAT(describe_stragglers({1, 1, 1, 1}, looking_every(50), hosts), IsEmpty());
  EXPECT_THAT(describe_stragglers({1, 2}, looking_every(50), hosts),
              ElementsAre(HasSubstr("rank 1 ")));
}

// Rank 0 takes ten seconds off its waiting, which count as work then, as no test waits for them.
TEST(RankTimes, TellWorkFromWaitingOnEveryRank) {
  parallel::ThreadGroup(2).run([](parallel::Communicator& world) {
    RankTimes times(looking_every(2), world);
    world.activity().begin(Phase::kForward);
    if (world.rank() == 0) world.activity().add_wait(-10);
    world.activity().begin(Phase::kBetweenSteps);
    EXPECT_THAT(times.count_step(), IsEmpty());
    EXPECT_THAT(times.count_step(), ElementsAre(HasSubstr("rank 0 ")));
    const auto phases = times.per_step();
    ASSERT_EQ(phases.size(), 8u);
    EXPECT_EQ(phases[0].name, "forward/work");
    EXPECT_EQ(phases[1].name, "forward/wait");
    EXPECT_THAT(phases[1].seconds, ElementsAre(-5.0, 0.0));  // over two steps
    EXPECT_THAT(phases[0].seconds[0], Gt(phases[0].seconds[1]));
  });
}

}  // namespace
}  // namespace switchyard::trainer
