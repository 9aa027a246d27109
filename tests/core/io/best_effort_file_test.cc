#include "core/io/best_effort_file.h"

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

TEST(BestEffortFile, WarnsOnceOnAFullDiskAndGoesOn) {
  BestEffortFile file("/dev/full");
  testing::internal::CaptureStderr();
  file.append("first\n");
  const std::string first = testing::internal::GetCapturedStderr();
  testing::internal::CaptureStderr();
  file.append("second, longer\n");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_THAT(first, HasSubstr("/dev/full"));
  EXPECT_THAT(first, HasSubstr("No space left on device"));
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
