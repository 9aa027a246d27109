#include "trainer/start_checks.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/base/process.h"
#include "parallel/thread.h"
#include "tests/core/io/temp_folder.h"

namespace switchyard::trainer {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

void check_with(const RankIdentity& of_rank_1) {
  parallel::ThreadGroup(3).run([&](parallel::Communicator& world) {
    check_same_on_all(world.rank() == 1 ? of_rank_1 : RankIdentity{"1.0", "seed: 1", 17, 0x2e},
                      world);
  });
}

TEST(SameOnAll, AcceptsRanksThatAreAlike) {
  EXPECT_NO_THROW(check_with({"1.0", "seed: 1", 17, 0x2e}));
}

TEST(SameOnAll, NamesWhatDiffersAndWhoHasWhat) {
  EXPECT_THAT(
      [] {
        check_with({"1.1", "seed: 2", 18, 0x2e});
      },
      ThrowsMessage<CommError>(HasSubstr("programs (rank 0, 2: 1.0; rank 1: 1.1)")));
  EXPECT_THAT(
      [] {
        check_with({"1.0", "seed: 2", 17, 0x2e});
      },
      ThrowsMessage<CommError>(HasSubstr("different configs")));
  EXPECT_THAT(
      [] {
        check_with({"1.0", "seed: 1", 18, 0x2e});
      },
      ThrowsMessage<DataError>(
          AllOf(HasSubstr("training data"),
                HasSubstr("(rank 0, 2: 0000000000000011; rank 1: 0000000000000012)"))));
  EXPECT_THAT(
      [] {
        check_with({"1.0", "seed: 1", 17, 0x2f});
      },
      ThrowsMessage<DataError>(HasSubstr("data.tokenizer is not the same")));
}

TEST(SameOnAll, TellsProgramsApartByTheirFiles) {
  EXPECT_THAT(this_program(), testing::MatchesRegex("switchyard [0-9.]+ \\([0-9a-f]+\\)"));
}

TEST(Storage, IsTriedByAllRanksWithoutATrace) {
  TempFolder folder;
  parallel::ThreadGroup(3).run(
      [&](parallel::Communicator& world) { try_storage(FileSystem(), folder.path(), world); });
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Storage, ThatOneRankDoesNotShareIsFound) {
  TempFolder shared, other;
  const auto folder = [&](int rank) { return rank == 2 ? other.path() : shared.path(); };
  EXPECT_THAT(
      [&] {
        parallel::ThreadGroup(4).run([&](parallel::Communicator& world) {
          try_storage(FileSystem(), folder(world.rank()), world);
        });
      },
      ThrowsMessage<StorageError>(
          AllOf(HasSubstr("rank 1: host " + host_name() + ": open " + shared.path()),
                HasSubstr("rank 2: host"), HasSubstr("set output_dir to a folder"))));
  EXPECT_TRUE(std::filesystem::is_empty(shared.path()));
  EXPECT_TRUE(std::filesystem::is_empty(other.path()));
}

TEST(Storage, ThatOneRankCannotWriteIsFound) {
  TempFolder folder;
  const FileSystem full([](FileStep step, const std::string& path) {
    if (step == FileStep::kSync) throw StorageError("fsync " + path + ": No space left on device");
  });
  EXPECT_THAT(
      [&] {
        parallel::ThreadGroup(2).run([&](parallel::Communicator& world) {
          try_storage(world.rank() == 1 ? full : FileSystem(), folder.path(), world);
        });
      },
      ThrowsMessage<StorageError>(
          AllOf(HasSubstr("rank 1: host"), HasSubstr("No space left on device"))));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace switchyard::trainer
