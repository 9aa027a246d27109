// Death and failure of a save at every single step that it makes on disk.

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <mutex>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/core/io/temp_folder.h"
#include "tests/trainer/checkpoint_fixture.h"
#include "trainer/checkpoint/checkpoint.h"

namespace switchyard::trainer {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Stands for kill -9: no error of ours, so that nobody catches it and cleans up.
struct Killed {};

// A file system that dies at its step number `dying` and stays dead.
FileSystem dying_at(int dying) {
  return FileSystem([dying, number = std::make_shared<int>(0)](FileStep, const std::string&) {
    if ((*number)++ >= dying) throw Killed();
  });
}

// Only its step number `failing` fails, as on a full disk.
FileSystem failing_at(int failing) {
  return FileSystem(
      [failing, number = std::make_shared<int>(0)](FileStep, const std::string& path) {
        if ((*number)++ == failing)
          throw StorageError("write " + path + ": No space left on device");
      });
}

// How many steps each rank makes to save `step` into a folder as `prepare` leaves it.
std::vector<int> steps_of_save(int ranks, int64_t step,
                               const std::function<void(const std::string&)>& prepare) {
  TempFolder folder;
  prepare(folder.path());
  std::vector<int> steps(static_cast<size_t>(ranks), 0);
  parallel::ThreadGroup(ranks).run([&](parallel::Communicator& world) {
    int& count = steps[static_cast<size_t>(world.rank())];
    save_step(world, folder.path(), step,
              FileSystem([&](FileStep, const std::string&) { ++count; }));
  });
  return steps;
}

void save_while_one_dies(int ranks, const std::string& folder, int64_t step, int victim, int at) {
  try {
    parallel::ThreadGroup(ranks).run([&](parallel::Communicator& world) {
      save_step(world, folder, step, world.rank() == victim ? dying_at(at) : FileSystem());
    });
  } catch (const Killed&) {
  } catch (const CommError&) {
  }
}

// After the death: a complete step is there, the next save works and leaves nothing behind.
void expect_recovers(const std::string& folder, int64_t before, int64_t after) {
  const auto latest = latest_checkpoint(folder);
  ASSERT_TRUE(latest);
  EXPECT_THAT(*latest, AnyOf(folder + "/step_" + std::to_string(before),
                             folder + "/step_" + std::to_string(after)));
  expect_holds(*latest, latest->ends_with(std::to_string(after)) ? after : before);
  save_step_by(1, folder, after + 1);
  const auto kept = names_in(folder);
  EXPECT_EQ(kept.size(), 3U) << testing::PrintToString(kept);  // LATEST and two steps
  expect_holds(*latest_checkpoint(folder), after + 1);
}

TEST(CheckpointCrash, LeavesTheOldOrTheNewStepWhereverAnyRankDies) {
  const auto prepare = [](const std::string& folder) {
    for (const int64_t step : {1, 2}) save_step_by(1, folder, step);
  };
  int deaths = 0;
  for (const int ranks : {1, 2}) {
    const auto steps = steps_of_save(ranks, 3, prepare);
    for (int victim = 0; victim < ranks; ++victim) {
      for (int at = 0; at < steps[static_cast<size_t>(victim)]; ++at, ++deaths) {
        SCOPED_TRACE(testing::Message()
                     << "rank " << victim << " of " << ranks << " dies at step " << at);
        TempFolder folder;
        prepare(folder.path());
        save_while_one_dies(ranks, folder.path(), 3, victim, at);
        expect_recovers(folder.path(), 2, 3);
      }
    }
  }
  EXPECT_GE(deaths, 60);
}

TEST(CheckpointCrash, LosesNothingWhileTheOnlyStepIsSavedAgain) {
  const auto prepare = [](const std::string& folder) { save_step_by(1, folder, 1); };
  const int steps = steps_of_save(1, 1, prepare)[0];
  for (int at = 0; at < steps; ++at) {
    SCOPED_TRACE(testing::Message() << "dies at step " << at);
    TempFolder folder;
    prepare(folder.path());
    save_while_one_dies(1, folder.path(), 1, 0, at);
    const auto latest = latest_checkpoint(folder.path());
    ASSERT_TRUE(latest);
    expect_holds(*latest, 1);
    save_step_by(1, folder.path(), 1);
    EXPECT_THAT(names_in(folder.path()), ElementsAre("LATEST", "step_1"));
  }
}

TEST(CheckpointCrash, KeepsWhatADeadRunLeftUntilAValidStepExists) {
  TempFolder folder;
  save_while_one_dies(1, folder.path(), 1, 0, /*at=*/8);
  EXPECT_EQ(latest_checkpoint(folder.path()), std::nullopt);
  EXPECT_THAT(names_in(folder.path()), ElementsAre(HasSubstr("step_1.tmp-")));
  save_step_by(1, folder.path(), 1);
  EXPECT_THAT(names_in(folder.path()), ElementsAre("LATEST", "step_1"));
}

// What each rank's save threw, "" for nothing.
std::vector<std::string> save_while_one_fails(int ranks, const std::string& folder, int64_t step,
                                              int victim, int at) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  parallel::ThreadGroup(ranks).run([&](parallel::Communicator& world) {
    try {
      save_step(world, folder, step, world.rank() == victim ? failing_at(at) : FileSystem());
    } catch (const StorageError& error) {
      errors[static_cast<size_t>(world.rank())] = error.what();
    }
  });
  return errors;
}

TEST(CheckpointFailure, IsTheSameErrorOnAllRanksAndKeepsEarlierSteps) {
  const auto prepare = [](const std::string& folder) { save_step_by(1, folder, 1); };
  const auto steps = steps_of_save(2, 2, prepare);
  for (const int victim : {0, 1}) {
    for (int at = 0; at < steps[static_cast<size_t>(victim)]; ++at) {
      SCOPED_TRACE(testing::Message() << "rank " << victim << " fails at step " << at);
      TempFolder folder;
      prepare(folder.path());
      const auto errors = save_while_one_fails(2, folder.path(), 2, victim, at);
      EXPECT_EQ(errors[0], errors[1]);
      expect_holds(folder.file("step_1"), 1);
      if (errors[0].empty()) {  // failed after the commit: a warning
        expect_holds(*latest_checkpoint(folder.path()), 2);
      } else {
        EXPECT_THAT(errors[0], AllOf(HasSubstr("rank " + std::to_string(victim)),
                                     HasSubstr("No space left on device")));
        for (const auto& name : names_in(folder.path())) {
          EXPECT_THAT(name, AnyOf("LATEST", "step_1", "step_2"));
        }
      }
      save_step_by(2, folder.path(), 3);  // the run goes on
      expect_holds(*latest_checkpoint(folder.path()), 3);
    }
  }
}

}  // namespace
}  // namespace switchyard::trainer
