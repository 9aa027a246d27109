// Which step a run resumes from, and which ones stay.

#include "trainer/checkpoint/folder.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/io/bytes.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/core/io/temp_folder.h"
#include "tests/trainer/checkpoint_fixture.h"
#include "trainer/checkpoint/checkpoint.h"

namespace switchyard::trainer {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kWeights = "weights-00000-of-00001.safetensors";

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

void save_steps(const std::string& folder, std::initializer_list<int64_t> steps) {
  for (const int64_t step : steps) save_step_by(1, folder, step);
}

TEST(LatestCheckpoint, IsNothingWithoutACommittedStep) {
  TempFolder folder;
  EXPECT_EQ(latest_checkpoint(folder.file("absent")), std::nullopt);
  std::filesystem::create_directories(folder.file("step_7"));  // holds no COMMIT
  write(folder.file("LATEST"), "step_7\n");
  EXPECT_EQ(latest_checkpoint(folder.path()), std::nullopt);
}

TEST(LatestCheckpoint, ComparesStepsAsNumbers) {
  TempFolder folder;
  save_steps(folder.path(), {9, 10});
  EXPECT_EQ(latest_checkpoint(folder.path()), folder.file("step_10"));
}

TEST(LatestCheckpoint, GoesByTheFoldersAndWarnsWhenLatestIsWrong) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2});
  const std::string garbage[] = {"",
                                 "step_3\n",
                                 "../step_2",
                                 std::string("step_2\0", 7),
                                 "\xff\xfe\n\n",
                                 std::string(100000, 'x')};
  for (const std::string& text : garbage) {
    write(folder.file("LATEST"), text);
    std::optional<std::string> latest;
    const std::string warnings = warnings_of([&] { latest = latest_checkpoint(folder.path()); });
    EXPECT_EQ(latest, folder.file("step_2"));
    EXPECT_THAT(warnings, HasSubstr("LATEST"));
  }
}

TEST(LatestCheckpoint, IgnoresNamesThatOnlyLookLikeSteps) {
  TempFolder folder;
  save_steps(folder.path(), {1});
  for (const char* name : {"step_", "step_02", "step_-3", "step_4x", "step_5.tmp-6", "step_+7",
                           "step_99999999999999999999", "xstep_8"}) {
    std::filesystem::create_directories(folder.file(name));
    write(folder.file(name) + "/COMMIT", "");
  }
  EXPECT_EQ(latest_checkpoint(folder.path()), folder.file("step_1"));
}

// A loop of links stands for every answer that is neither "there" nor "not there".
TEST(LatestCheckpoint, IsAnErrorWhereTheFolderCannotBeRead) {
  TempFolder folder;
  std::filesystem::create_symlink("loop", folder.file("loop"));
  EXPECT_THROW(latest_checkpoint(folder.file("loop")), StorageError);
  save_steps(folder.path(), {1});
  std::filesystem::create_directories(folder.file("step_2"));
  std::filesystem::create_symlink("COMMIT", folder.file("step_2/COMMIT"));
  EXPECT_THROW(latest_checkpoint(folder.path()), StorageError);
}

TEST(AbandonLaterSteps, KeepsThemUnderNamesThatAreNeverChosen) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2});
  const FileSystem files;
  EXPECT_THAT(abandon_later_steps(files, folder.path(), 2), testing::IsEmpty());
  EXPECT_THAT(abandon_later_steps(files, folder.path(), 1), ElementsAre("step_2.abandoned-1"));
  EXPECT_EQ(latest_checkpoint(folder.path()), folder.file("step_1"));
  save_steps(folder.path(), {2});
  EXPECT_THAT(abandon_later_steps(files, folder.path(), 0),
              ElementsAre("step_2.abandoned-2", "step_1.abandoned-1"));
  save_steps(folder.path(), {5, 6, 7});  // pruning leaves them alone
  EXPECT_TRUE(std::filesystem::exists(folder.file("step_2.abandoned-1/COMMIT")));
  EXPECT_TRUE(std::filesystem::exists(folder.file("step_2.abandoned-2/COMMIT")));
}

TEST(RemoveOldSteps, KeepsTheNewestTwo) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2, 3, 4});
  EXPECT_THAT(names_in(folder.path()), ElementsAre("LATEST", "step_3", "step_4"));
  EXPECT_EQ(read_text_file(folder.file("LATEST"), 100), "step_4\n");
}

TEST(RemoveOldSteps, GoesOnWhereLatestCannotBeWritten) {
  TempFolder folder;
  std::filesystem::create_directories(folder.file("LATEST/precious"));
  save_steps(folder.path(), {1, 2, 3});
  EXPECT_FALSE(std::filesystem::exists(folder.file("step_1")));
  EXPECT_TRUE(std::filesystem::exists(folder.file("step_3")));
  EXPECT_TRUE(std::filesystem::exists(folder.file("LATEST/precious")));
}

TEST(RemoveOldSteps, DoesNotCountADamagedStep) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2});
  std::filesystem::resize_file(folder.file("step_2/") + kWeights, 100);
  save_steps(folder.path(), {3});
  EXPECT_THAT(names_in(folder.path()), ElementsAre("LATEST", "step_1", "step_2", "step_3"));
  save_steps(folder.path(), {4});
  EXPECT_THAT(names_in(folder.path()), ElementsAre("LATEST", "step_3", "step_4"));
}

TEST(RemoveOldSteps, LeavesStepsBeyondTheSavedOneAlone) {
  TempFolder folder;
  save_steps(folder.path(), {5, 6, 1, 2, 3});
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("LATEST", "step_2", "step_3", "step_5", "step_6"));
}

TEST(RemoveOldSteps, LeavesOtherFilesAlone) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2});
  write(folder.file("notes.tmp-1"), "mine");
  std::filesystem::create_directories(folder.file("best_step"));
  save_steps(folder.path(), {3});
  EXPECT_THAT(names_in(folder.path()),
              ElementsAre("LATEST", "best_step", "notes.tmp-1", "step_2", "step_3"));
}

TEST(SaveCheckpoint, ReplacesAStepThatIsThereAlready) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2});
  std::filesystem::resize_file(folder.file("step_2/") + kWeights, 100);
  save_steps(folder.path(), {2});
  EXPECT_THAT(names_in(folder.path()), ElementsAre("LATEST", "step_1", "step_2"));
  expect_holds(folder.file("step_2"), 2);
}

TEST(OpenNewestValid, TakesTheNewestStepIfItIsSound) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2});
  const auto world = parallel::make_single();
  EXPECT_EQ(open_newest_valid(folder.path(), *world)->path(), folder.file("step_2"));
  EXPECT_FALSE(open_newest_valid(folder.file("absent"), *world));
}

TEST(OpenNewestValid, FallsBackOnAllRanksAndSaysWhatIsDamaged) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2});
  const std::string shard = folder.file("step_2/") + kWeights;
  flip_bit(shard, std::filesystem::file_size(shard) - 1);
  const std::string warnings = warnings_of([&] {
    parallel::ThreadGroup(2).run([&](parallel::Communicator& world) {
      EXPECT_EQ(open_newest_valid(folder.path(), world)->path(), folder.file("step_1"));
    });
  });
  EXPECT_THAT(warnings, AllOf(HasSubstr("passing over a damaged checkpoint"), HasSubstr("step_2"),
                              HasSubstr("tensor \"norm\" is damaged")));
}

TEST(OpenNewestValid, RefusesToBeginAnewWhenEveryStepIsDamaged) {
  TempFolder folder;
  save_steps(folder.path(), {1, 2});
  for (const char* step : {"step_1", "step_2"}) write(folder.file(step) + "/COMMIT", "");
  const auto world = parallel::make_single();
  EXPECT_THAT(checkpoint_error_of([&] { open_newest_valid(folder.path(), *world); }),
              HasSubstr("all 2 checkpoints are damaged"));
}

}  // namespace
}  // namespace switchyard::trainer
