#include "trainer/run_lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "tests/core/io/temp_folder.h"
#include "tests/trainer/checkpoint_fixture.h"

namespace switchyard::trainer {
namespace {

using testing::HasSubstr;

TEST(RunLock, RefusesASecondJobAndNamesTheFirst) {
  TempFolder folder;
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const RunLock first(folder.path());
  const std::string message = checkpoint_error_of([&] { RunLock second(folder.path()); });
  EXPECT_THAT(message, HasSubstr(folder.file("run.lock") + ": another job"));
  EXPECT_THAT(message, HasSubstr("host " + std::string(host)));
  EXPECT_THAT(message, HasSubstr("process " + std::to_string(::getpid())));
}

TEST(RunLock, IsFreeAgainOnceTheHolderIsGone) {
  TempFolder folder;
  { const RunLock first(folder.path()); }
  EXPECT_NO_THROW(RunLock(folder.path()));
}

TEST(RunLock, IsFreeAgainAfterTheHolderWasKilled) {
  TempFolder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const RunLock lock(folder.path());
    ::_exit(0);  // no destructor runs
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_NO_THROW(RunLock(folder.path()));
}

TEST(RunLock, IsNotTakenThroughALink) {
  TempFolder folder;
  std::filesystem::create_symlink(folder.file("elsewhere"), folder.file("run.lock"));
  EXPECT_THAT([&] { RunLock lock(folder.path()); },
              testing::ThrowsMessage<StorageError>(HasSubstr("run.lock is a symbolic link")));
  EXPECT_FALSE(std::filesystem::exists(folder.file("elsewhere")));
}

TEST(RunLock, NoticesThatItsFolderIsGoneOrAnother) {
  TempFolder folder;
  const RunLock lock(folder.file("run"));
  EXPECT_NO_THROW(lock.check_held());
  std::filesystem::rename(folder.file("run"), folder.file("moved"));
  EXPECT_THROW(lock.check_held(), StorageError);
  const RunLock other(folder.file("run"));
  EXPECT_THAT([&] { lock.check_held(); },
              testing::ThrowsMessage<StorageError>(HasSubstr(folder.file("run/run.lock"))));
}

TEST(RunLock, CreatesTheRunsFolder) {
  TempFolder folder;
  const RunLock lock(folder.file("runs/first"));
  EXPECT_THAT(names_in(folder.file("runs/first")), testing::ElementsAre("run.lock"));
}

}  // namespace
}  // namespace switchyard::trainer
