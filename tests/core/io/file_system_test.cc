#include "core/io/file_system.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/io/bytes.h"
#include "tests/core/io/temp_folder.h"

namespace switchyard {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void replace(const FileSystem& files, const std::string& path, std::string_view text) {
  write_file_atomically(files, path, as_byte_span(text));
}

TEST(WriteFileAtomically, WritesSyncsRenamesThenSyncsTheFolder) {
  TempFolder folder;
  std::vector<FileStep> steps;
  const FileSystem files([&](FileStep step, const std::string&) { steps.push_back(step); });
  replace(files, folder.file("f"), "text");
  EXPECT_EQ(read_text_file(folder.file("f"), 4), "text");
  EXPECT_THAT(steps, ElementsAre(FileStep::kOpen, FileStep::kWrite, FileStep::kSync,
                                 FileStep::kRename, FileStep::kSyncDirectory));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("f"));
}

constexpr int kStepsOfAReplacement = 5;

TEST(WriteFileAtomically, KeepsTheOldFileAndCleansUpWhateverStepFails) {
  for (int failing = 0; failing < kStepsOfAReplacement; ++failing) {
    TempFolder folder;
    replace(FileSystem(), folder.file("f"), "old");
    int step_number = 0;
    const FileSystem files([&](FileStep, const std::string& path) {
      if (step_number++ == failing) throw StorageError("injected at " + path);
    });
    EXPECT_THROW(replace(files, folder.file("f"), "new"), StorageError) << failing;
    EXPECT_THAT(names_in(folder.path()), ElementsAre("f")) << failing;
    const bool renamed = failing == kStepsOfAReplacement - 1;
    EXPECT_EQ(read_text_file(folder.file("f"), 3), renamed ? "new" : "old") << failing;
  }
}

TEST(WriteFileAtomically, LeavesTheOldOrTheNewFileIfTheProcessDiesAtAnyStep) {
  for (int dying = 0; dying < kStepsOfAReplacement; ++dying) {
    TempFolder folder;
    replace(FileSystem(), folder.file("f"), "old");
    const pid_t child = ::fork();
    if (child == 0) {
      int step_number = 0;
      replace(FileSystem([&](FileStep, const std::string&) {
                if (step_number++ == dying) ::_exit(9);
              }),
              folder.file("f"), "new");
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 9) << dying;
    const bool renamed = dying == kStepsOfAReplacement - 1;
    EXPECT_EQ(read_text_file(folder.file("f"), 3), renamed ? "new" : "old") << dying;
  }
}

TEST(WriteFileAtomically, NamesThePathWhenTheFolderIsMissing) {
  try {
    replace(FileSystem(), "/no/such/folder/f", "x");
    FAIL() << "nothing was thrown";
  } catch (const StorageError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/no/such/folder/f"));
    EXPECT_THAT(error.what(), HasSubstr("No such file or directory"));
  }
}

TEST(FileSystem, CreatesRenamesAndRemovesFolders) {
  TempFolder folder;
  const FileSystem files;
  files.create_directory(folder.file("a/b"));
  files.create_directory(folder.file("a/b"));
  files.create_file(folder.file("a/b/f")).write(as_byte_span("x"));
  files.rename(folder.file("a"), folder.file("c"));
  files.sync_directory(folder.path());
  EXPECT_EQ(read_text_file(folder.file("c/b/f"), 1), "x");
  files.remove_all(folder.file("c"));
  files.remove_all(folder.file("c"));
  EXPECT_THAT(names_in(folder.path()), ElementsAre());
}

TEST(FileSystem, SyncsTheParentOfEveryFolderThatItMakes) {
  TempFolder folder;
  std::vector<std::string> synced;
  const FileSystem files([&](FileStep step, const std::string& path) {
    if (step == FileStep::kSyncDirectory) synced.push_back(path);
  });
  files.create_directory(folder.file("a/b"));
  EXPECT_THAT(synced, ElementsAre(folder.path(), folder.file("a")));
  files.create_directory(folder.file("a/b"));
  EXPECT_EQ(synced.size(), 2U);
}

TEST(FileSystem, NeverRenamesOverAFolderThatHoldsSomething) {
  TempFolder folder;
  const FileSystem files;
  files.create_directory(folder.file("step_1/old"));
  files.create_directory(folder.file("new"));
  EXPECT_THROW(files.rename(folder.file("new"), folder.file("step_1")), StorageError);
  EXPECT_TRUE(std::filesystem::exists(folder.file("step_1/old")));
}

TEST(ReadTextFile, RefusesAFileLargerThanTheLimit) {
  TempFolder folder;
  const std::string large(200000, 'x');
  replace(FileSystem(), folder.file("f"), large);
  EXPECT_EQ(read_text_file(folder.file("f"), large.size()), large);
  EXPECT_THROW(static_cast<void>(read_text_file(folder.file("f"), large.size() - 1)), StorageError);
}

}  // namespace
}  // namespace switchyard
