#include "parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "parallel/single.h"
#include "parallel/thread.h"

namespace switchyard::parallel {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

void expect_shape(const Mesh::Shape& shape, int data, int expert, int expert_data) {
  EXPECT_EQ(shape.data, data);
  EXPECT_EQ(shape.expert, expert);
  EXPECT_EQ(shape.expert_data, expert_data);
}

TEST(Mesh, ChoosesTheLargestExpertDegreeThatDividesRanksAndExperts) {
  expect_shape(Mesh::resolve(1, {}, 8), 1, 1, 1);
  expect_shape(Mesh::resolve(4, {}, 8), 4, 4, 1);
  expect_shape(Mesh::resolve(8, {}, 4), 8, 4, 2);
  expect_shape(Mesh::resolve(8, {}, 6), 8, 2, 4);
  expect_shape(Mesh::resolve(8, {}, 7), 8, 1, 8);
}

TEST(Mesh, HasNoExpertAxisForADenseModel) { expect_shape(Mesh::resolve(4, {}, 0), 4, 1, 4); }

TEST(Mesh, TakesTheDegreesAskedFor) {
  expect_shape(Mesh::resolve(8, {.data = 8, .expert = 2}, 8), 8, 2, 4);
  expect_shape(Mesh::resolve(4, {.expert = 1}, 8), 4, 1, 4);
}

TEST(Mesh, RefusesDegreesThatDoNotFit) {
  EXPECT_THAT(
      [] { Mesh::resolve(4, {.data = 2}, 8); },
      ThrowsMessage<ConfigError>(HasSubstr("mesh.data (2) must be the number of ranks (4)")));
  EXPECT_THAT(
      [] { Mesh::resolve(4, {.expert = 3}, 6); },
      ThrowsMessage<ConfigError>(HasSubstr("mesh.expert (3) must divide the number of ranks (4)")));
  EXPECT_THAT([] { Mesh::resolve(4, {.expert = 4}, 6); },
              ThrowsMessage<ConfigError>(
                  HasSubstr("mesh.expert (4) must divide the number of experts (6)")));
  EXPECT_THAT([] { Mesh::resolve(4, {.expert = 2}, 0); },
              ThrowsMessage<ConfigError>(HasSubstr("must be 1 or unset for a model without")));
  for (const int degree : {0, -1}) {
    EXPECT_THROW(Mesh::resolve(4, {.expert = degree}, 8), ConfigError);
    EXPECT_THROW(Mesh::resolve(4, {.data = degree}, 8), ConfigError);
  }
}

// Every rank tells its number; who is in a group is read off the sums.
TEST(Mesh, MakesNeighboursAnExpertGroup) {
  for (const int ranks : {1, 2, 4, 8}) {
    for (int expert = 1; expert <= ranks; expert *= 2) {
      ThreadGroup(ranks).run([&](Communicator& world) {
        const Mesh mesh(world, {.expert = expert}, 8);
        EXPECT_EQ(mesh.data().size(), ranks);
        EXPECT_EQ(mesh.expert().size(), expert);
        EXPECT_EQ(mesh.expert_data().size(), ranks / expert);
        EXPECT_EQ(mesh.expert_data().rank() * expert + mesh.expert().rank(), world.rank());
        std::vector<int> members(expert);
        const int own = world.rank();
        mesh.expert().all_gather(&own, members.data(), sizeof own, "members");
        for (int i = 0; i < expert; ++i) EXPECT_EQ(members[i], own / expert * expert + i);
      });
    }
  }
}

TEST(Mesh, TwoLiveInOneProcess) {
  ThreadGroup(4).run([](Communicator& world) {
    const Mesh wide(world, {.expert = 4}, 8);
    const Mesh narrow(world, {.expert = 2}, 8);
    EXPECT_EQ(wide.expert().all_reduce(1, ReduceOp::kSum, "wide"), 4);
    EXPECT_EQ(narrow.expert().all_reduce(1, ReduceOp::kSum, "narrow"), 2);
    EXPECT_EQ(wide.expert_data().all_reduce(1, ReduceOp::kSum, "wide"), 1);
  });
}

TEST(Mesh, DescribesWhoIsWithWhom) {
  ThreadGroup(4).run([](Communicator& world) {
    EXPECT_EQ(Mesh(world, {.expert = 2}, 8).describe(),
              "mesh of 4 ranks: data 4, expert 2, expert_data 2\n"
              "  expert groups (hold all experts together): 0 1 | 2 3\n"
              "  expert_data groups (hold the same experts): 0 2 | 1 3");
  });
}

}  // namespace
}  // namespace switchyard::parallel
