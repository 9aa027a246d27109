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

std::string described(const MeshDegrees& degrees, const std::vector<std::string>& hosts) {
  std::string text;
  ThreadGroup(static_cast<int>(hosts.size())).run([&](Communicator& world) {
    const std::string own = Mesh(world, MeshShape(degrees)).describe(hosts);
    if (world.rank() == 0) text = own;
  });
  return text;
}

TEST(Mesh, DescribesWhoIsWithWhom) {
  EXPECT_EQ(described({.data = 4, .expert = 2}, {"a", "a", "a", "a"}),
            "mesh of 4 rank(s) on a: data 4, expert 2, expert_data 2\n"
            "  data groups (see different tokens): 0-3\n"
            "  expert groups (hold all experts together): 0-1 | 2-3\n"
            "  expert_data groups (hold the same experts): 0 2 | 1 3");
  EXPECT_EQ(described({}, {"a"}), "mesh of 1 rank(s) on a");
  EXPECT_EQ(described({.data = 2}, {"a", "a"}),
            "mesh of 2 rank(s) on a: data 2\n"
            "  data groups (see different tokens): 0-1");
}

TEST(Mesh, DescribesWhoIsWithWhomByHost) {
  EXPECT_EQ(described({.data = 3, .tensor = 2}, {"b", "b", "a", "a", "a", "b"}),
            "mesh of 6 rank(s) on 2 hosts: data 3, tensor 2\n"
            "  hosts: a 2-4 | b 0-1 5\n"
            "  data groups (see different tokens, across hosts): 0 2 4 | 1 3 5\n"
            "  tensor groups (hold each matrix together, across hosts): 0-1 | 2-3 | 4-5");
}

TEST(Mesh, DescribesManyGroupsBySome) {
  const std::string text = described({.data = 10, .tensor = 2}, std::vector<std::string>(20, "a"));
  EXPECT_THAT(text, ::testing::HasSubstr("| 14-15 | 2 more"));
  EXPECT_THAT(text, ::testing::HasSubstr("0-18 by 2 | 1-19 by 2"));
}

}  // namespace
}  // namespace switchyard::parallel
