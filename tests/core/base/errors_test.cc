#include "core/base/errors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(Check, SaysWhereWhatAndWithWhichValues) {
  const int rows = 3;
  try {
    SY_CHECK(rows == 4, "expected 4 rows, got {}", rows);
    FAIL() << "no exception";
  } catch (const CheckError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("errors_test.cc"));
    EXPECT_THAT(error.what(), testing::HasSubstr("rows == 4"));
    EXPECT_THAT(error.what(), testing::HasSubstr("expected 4 rows, got 3"));
  }
}

TEST(Error, CarriesTheExitCodeOfItsKind) {
  EXPECT_EQ(ConfigError("x").code(), ExitCode::kConfig);
  EXPECT_EQ(StorageError("x").code(), ExitCode::kStorage);
}

}  // namespace
}  // namespace switchyard
