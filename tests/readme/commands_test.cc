#include "tests/readme/commands.h"

#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace switchyard::readme {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(ReadmeCommands, AreTheLinesOfShellBlocks) {
  EXPECT_THAT(commands_in("text\n```sh\n# first\na --b c  # why\n\nd \\\n  e\n```\n"
                          "```\noutput\n```\n```text\nno\n```\n  ```sh\n  f#g\n  ```\n"),
              ElementsAre("a --b c", "d e", "f#g"));
}

TEST(ReadmeCommands, NamePathsInBackticks) {
  EXPECT_THAT(
      paths_in("`core/io/file.h`, `LICENSE`, `runs/NAME/`, `models/*.cc`, `a b/c.h`, core/x.h"),
      ElementsAre("core/io/file.h"));
}

TEST(ReadmeCommands, NeedAKnownTestEach) {
  const auto exercises = parse_exercises("# how\none | a --b\ntwo | c | d\n");
  EXPECT_THAT(unproven({"a --b", "c | d"}, exercises, {"one", "two"}), IsEmpty());
  EXPECT_THAT(unproven({"a --b", "c | d", "e"}, exercises, {"one", "two"}),
              ElementsAre("no test exercises: e"));
  EXPECT_THAT(unproven({"a --b"}, exercises, {"one", "two"}),
              ElementsAre("not in the README any more: c | d"));
  EXPECT_THAT(unproven({"a --b", "c | d"}, exercises, {"one"}),
              ElementsAre("there is no test 'two': c | d"));
  EXPECT_THROW(parse_exercises("one: a\n"), std::runtime_error);
}

}  // namespace
}  // namespace switchyard::readme
