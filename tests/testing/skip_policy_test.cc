#include "tests/testing/skip_policy.h"

#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard::testing {
namespace {

TEST(AllowedSkips, EachNeedsAReason) {
  const auto allowed =
      parse_allowed_skips("# none\n\nCrc.UsesSse the CPU has no SSE 4.2  # rare\n");
  EXPECT_EQ(allowed.size(), 1u);
  EXPECT_EQ(allowed.at("Crc.UsesSse").find("the CPU has no SSE 4.2"), 0u);
  EXPECT_THROW(parse_allowed_skips("Crc.UsesSse\n"), std::runtime_error);
}

}  // namespace
}  // namespace switchyard::testing
