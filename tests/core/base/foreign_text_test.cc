#include "core/base/foreign_text.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(InQuotes, ShowsHostileTextHarmlesslyAndShort) {
  using namespace std::string_view_literals;
  EXPECT_EQ(in_quotes("a\n\x1b[0m\xc3\xa9\xff\0b"sv), R"("a\x0a\x1b[0m\xc3\xa9\xff\x00b")");
  EXPECT_EQ(in_quotes("abcdef", 3), R"("abc...")");
  EXPECT_EQ(in_quotes("abc", 3), R"("abc")");
}

TEST(PlainName, LeadsNowhereButIntoItsOwnFolder) {
  for (const char* name : {"a", "A-1_b.c", "x..y"}) EXPECT_TRUE(is_plain_name(name)) << name;
  for (const char* name : {"", ".", "..", "-rf", "a/b", "a b", "a\n"})
    EXPECT_FALSE(is_plain_name(name)) << name;
  EXPECT_TRUE(is_plain_name(std::string(255, 'a')));
  EXPECT_FALSE(is_plain_name(std::string(256, 'a')));
}

}  // namespace
}  // namespace switchyard
