#include "parallel/world.h"

#include <cstdlib>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

using testing::HasSubstr;

// An environment variable for one scope.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }

 private:
  const char* name_;
};

TEST(World, IsSingleWithoutALauncherAndDoesNotTouchMpi) {
  EXPECT_FALSE(launched_by_mpi());
  const World world = start_world(1);
  EXPECT_EQ(world.session, nullptr);
  EXPECT_EQ(world.communicator->size(), 1);
  EXPECT_EQ(world.local_size, 1);
}

TEST(World, KnowsALauncherByItsEnvironment) {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"}) {
    const Variable variable(name, "0");
    EXPECT_TRUE(launched_by_mpi()) << name;
  }
  EXPECT_FALSE(launched_by_mpi());
  {
    const Variable step("SLURM_STEP_NUM_TASKS", "1");
    EXPECT_FALSE(launched_by_mpi());
  }
  const Variable step("SLURM_STEP_NUM_TASKS", "2");
  EXPECT_TRUE(launched_by_mpi());
}

// In a process of its own, since it initialises MPI.
TEST(WorldDeathTest, RefusesALauncherWhoseSizeIsNotMpis) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const Variable step("SLURM_STEP_NUM_TASKS", "3");
  EXPECT_EXIT(
      {
        try {
          start_world(1);
        } catch (const CommError& error) {
          fmt::print(stderr, "{}\n", error.what());
          std::_Exit(5);
        }
        std::_Exit(0);
      },
      testing::ExitedWithCode(5), "the launcher started 3 ranks, but MPI sees 1");
}

}  // namespace
}  // namespace switchyard::parallel
