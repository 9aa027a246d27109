#include "core/io/best_effort_file.h"

#include <sys/stat.h>

#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/io/file_system.h"
#include "tests/core/io/file_size_limit.h"
#include "tests/core/io/temp_folder.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

TEST(BestEffortFile, AppendsToWhatIsThere) {
  TempFolder folder;
  BestEffortFile(folder.file("f")).append("a\n");
  BestEffortFile(folder.file("f")).append("b\n");
  EXPECT_EQ(read_text_file(folder.file("f"), 100), "a\nb\n");
}

TEST(BestEffortFile, CannotBeOpenedInAMissingFolder) {
  EXPECT_THROW(BestEffortFile("/no/such/folder/f"), StorageError);
}

TEST(BestEffortFile, IsNothingButAFile) {
  TempFolder folder;
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  for (const auto& [path, kind] : std::map<std::string, std::string>{
           {folder.file("pipe"), "pipe"}, {folder.path(), "folder"}, {"/dev/null", "device"}}) {
    EXPECT_THAT([&path = path] { BestEffortFile file(path); },
                testing::ThrowsMessage<StorageError>(
                    HasSubstr(path + " is a " + kind + ", expected a regular file")));
  }
}

TEST(BestEffortFile, WarnsOnceOnAFullDiskAndGoesOn) {
  TempFolder folder;
  constexpr size_t kRoom = 4096;  // what stderr needs fits too, captured in a file
  BestEffortFile file(folder.file("f"));
  file.append(std::string(kRoom, 'x'));
  const FileSizeLimit limit(kRoom);
  testing::internal::CaptureStderr();
  file.append("first\n");
  const std::string first = testing::internal::GetCapturedStderr();
  testing::internal::CaptureStderr();
  file.append("second, longer\n");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(first, HasSubstr(folder.file("f")));
  EXPECT_THAT(first, HasSubstr("File too large"));
  EXPECT_THAT(first, HasSubstr("the run goes on"));
}

TEST(BestEffortFile, LeavesNoPieceOfADroppedRecordBeforeLaterOnes) {
  TempFolder folder;
  BestEffortFile file(folder.file("f"));
  file.append("abc\n");
  {
    const FileSizeLimit limit(5);
    file.append("dropped\n");
  }
  file.append("later\n");
  EXPECT_EQ(read_text_file(folder.file("f"), 100), "abc\nlater\n");
}

}  // namespace
}  // namespace switchyard
