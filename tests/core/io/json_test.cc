#include "core/io/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"

namespace switchyard {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

nlohmann::json parse(std::string_view text, const JsonLimits& limits = {}) {
  return parse_json(text, "manifest", raise<CheckpointError>, limits);
}

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
  try {
    static_cast<void>(parse(text, limits));
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(ParseJson, GivesTheSameTreeAsThePlainParser) {
  for (const std::string text :
       {R"({"a":[1,-2,3.5,true,null,{"b":"x"},[]],"c":{"a":{}},"d":18446744073709551615})", "[]",
        "7", R"(" text ")", R"([[1,[2]],{"a":1}])"}) {
    EXPECT_EQ(parse(text), nlohmann::json::parse(text)) << text;
  }
}

TEST(ParseJson, RefusesDuplicateKeysOnlyWithinOneObject) {
  EXPECT_EQ(error_of(R"({"a":1,"b":{"c":1,"c":2}})"), R"(manifest: duplicate key "c")");
  EXPECT_THAT(error_of(R"({"a":1,"\u0061":2})"), HasSubstr("duplicate"));
  EXPECT_EQ(parse(R"({"a":{"a":1},"b":{"a":2}})")["b"]["a"], 2);
}

TEST(ParseJson, RefusesWhatIsNotJsonWithLineAndColumn) {
  EXPECT_THAT(error_of("{\"a\": 1,\n  }"), HasSubstr("line 2, column 3"));
  for (const std::string text : {"", "{", "[1,]", "{'a':1}", "NaN", "[1] x", "{\"a\":1}}", "1e999",
                                 "\"\xff\"", "// c\n1", "\"\\ud800\""}) {
    EXPECT_THAT(error_of(text), StartsWith("manifest: not JSON: ")) << text;
  }
}

TEST(ParseJson, RefusesBytesBehindANul) {
  EXPECT_EQ(error_of(std::string_view("{}\0garbage", 10)),
            "manifest: not JSON: NUL byte at offset 2");
}

TEST(ParseJson, RefusesNestingPastTheLimit) {
  EXPECT_NO_THROW(static_cast<void>(parse("[[[]]]", {.max_depth = 3})));
  EXPECT_EQ(error_of("[[[[]]]]", {.max_depth = 3}), "manifest: nested deeper than 3 levels");
  EXPECT_THAT(error_of(std::string(1 << 20, '[')), HasSubstr("nested deeper"));
}

TEST(ParseJson, RefusesTextLargerThanTheLimitUnread) {
  EXPECT_EQ(error_of("[1,2]", {.max_bytes = 4}), "manifest: 5 bytes of JSON, expected at most 4");
}

TEST(ParseJson, ShowsWhatIsNoJsonHarmlesslyAndShort) {
  EXPECT_THAT(error_of("\xEF\xBB "), HasSubstr("last read: \"\\xef\\xbb"));
  EXPECT_LT(error_of("\"" + std::string(1 << 20, 'x')).size(), 400u);
  EXPECT_LT(error_of(std::string(1 << 20, '9') + "x").size(), 400u);
}

}  // namespace
}  // namespace switchyard
