#include "parallel/mesh.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "parallel/single.h"
#include "parallel/thread.h"

namespace switchyard::parallel {
namespace {

// Every rank tells its number; who is in a group is read off the sums.
TEST(Mesh, MakesNeighboursAnExpertGroup) {
  for (const int ranks : {1, 2, 4, 8}) {
    for (int expert = 1; expert <= ranks; expert *= 2) {
      ThreadGroup(ranks).run([&](Communicator& world) {
        const Mesh mesh(world, MeshShape({.data = ranks, .expert = expert}));
        EXPECT_EQ(mesh.data().size(), ranks);
        EXPECT_EQ(mesh.expert().size(), expert);
        EXPECT_EQ(mesh.expert_data().size(), ranks / expert);
        EXPECT_EQ(mesh.expert_data().rank() * expert + mesh.expert().rank(), world.rank());
        for (const Axis axis : kAllAxes) {
          EXPECT_EQ(mesh.layout()[axis].index, mesh.along(axis).rank());
          EXPECT_EQ(mesh.layout()[axis].size, mesh.along(axis).size());
        }
        std::vector<int> members(expert);
        const int own = world.rank();
        mesh.expert().all_gather(&own, members.data(), sizeof own, "members");
        for (int i = 0; i < expert; ++i) EXPECT_EQ(members[i], own / expert * expert + i);
      });
    }
  }
}

// Ranks that are told something while their data is under way, and ranks that were told before.
TEST(Mesh, KeepsControlApartFromData) {
  ThreadGroup(4).run([](Communicator& world) {
    const Mesh mesh(world, MeshShape({.data = 4, .expert = 2}));
    std::vector<double> values(1000, 1.0);
    const auto start = [&] {
      return mesh.data().start_all_reduce(values.data(), 1000, DType::kFloat64, ReduceOp::kSum,
                                          "values");
    };
    std::unique_ptr<Work> sum;
    if (world.rank() % 2 == 0) sum = start();
    EXPECT_EQ(mesh.control().all_gather_text("told", "news")[3], "told");
    if (world.rank() % 2 == 1) sum = start();
    sum->wait();
    EXPECT_EQ(values, std::vector<double>(1000, 4.0));
  });
}

TEST(Mesh, TwoLiveInOneProcess) {
  ThreadGroup(4).run([](Communicator& world) {
    const Mesh wide(world, MeshShape({.data = 4, .expert = 4}));
    const Mesh narrow(world, MeshShape({.data = 4, .expert = 2}));
    EXPECT_EQ(wide.expert().all_reduce(1, ReduceOp::kSum, "wide"), 4);
    EXPECT_EQ(narrow.expert().all_reduce(1, ReduceOp::kSum, "narrow"), 2);
    EXPECT_EQ(wide.expert_data().all_reduce(1, ReduceOp::kSum, "wide"), 1);
  });
}

TEST(Mesh, RefusesAShapeOfOtherRanks) {
  const auto world = make_single();
  EXPECT_THROW(Mesh(*world, MeshShape({.data = 2, .expert = 1})), CheckError);
  EXPECT_THROW(MeshShape({.data = 4, .expert = 3}), CheckError);
}

TEST(Mesh, DescribesWhoIsWithWhom) {
  ThreadGroup(4).run([](Communicator& world) {
    EXPECT_EQ(
        Mesh(world, MeshShape({.data = 4, .expert = 2})).describe(),
        "mesh of 4 ranks: data 4, tensor 1, pipeline 1, expert 2, expert_tensor 1, expert_data 2\n"
        "  data groups (see different tokens): 0 1 2 3\n"
        "  expert groups (hold all experts together): 0 1 | 2 3\n"
        "  expert_data groups (hold the same experts): 0 2 | 1 3");
  });
}

}  // namespace
}  // namespace switchyard::parallel
