#include "parallel/agreement.h"

#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "parallel/thread.h"

namespace switchyard::parallel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Agree, ReturnsEveryRanksResultOnEveryRank) {
  ThreadGroup(3).run([](Communicator& world) {
    const auto results = agree(world, "test", [&] { return std::string(world.rank(), 'x'); });
    EXPECT_THAT(results, ElementsAre("", "x", "xx"));
  });
}

TEST(Agree, ThrowsTheLowestFailedRanksKindOnEveryRankAndNamesThemAll) {
  ThreadGroup(4).run([](Communicator& world) {
    try {
      agree(world, "test", [&]() -> std::string {
        if (world.rank() == 1) throw StorageError("disk full");
        if (world.rank() == 3) throw CheckpointError("damaged");
        return "";
      });
      ADD_FAILURE() << "rank " << world.rank() << " went on alone";
    } catch (const StorageError& error) {
      EXPECT_STREQ(error.what(), "rank 1: disk full\nrank 3: damaged");
    }
  });
}

TEST(Agree, TurnsForeignExceptionsIntoOurOwn) {
  ThreadGroup(1).run([](Communicator& world) {
    EXPECT_THROW(agree(world, "test", []() -> std::string { throw std::bad_alloc(); }), CheckError);
  });
}

TEST(MakeOnAll, GivesEachRankItsOwnOrAllTheSameError) {
  ThreadGroup(2).run([](Communicator& world) {
    const auto own =
        make_on_all(world, "test", [&] { return std::make_unique<int>(world.rank()); });
    EXPECT_EQ(*own, world.rank());
    EXPECT_THAT(
        [&] {
          make_on_all(world, "test", [&] {
            if (world.rank() == 1) throw ConfigError("vocabulary too large");
            return 0;
          });
        },
        testing::ThrowsMessage<ConfigError>("rank 1: vocabulary too large"));
  });
}

}  // namespace
}  // namespace switchyard::parallel
