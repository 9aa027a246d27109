// The README of this repository against the tests of this build.

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/readme/commands.h"

namespace switchyard::readme {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : ".";
}

std::string read_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(variable("SY_TEST_ROOT") + "/" + path).rdbuf();
  return text.str();
}

// Names as `ctest --show-only` lists them: "  Test #3: name".
std::vector<std::string> registered_tests() {
  const std::string command = "ctest --show-only --test-dir '" + variable("SY_TEST_BUILD") + "'";
  FILE* pipe = popen(command.c_str(), "r");
  std::string listing;
  char part[4096];
  while (const size_t count = fread(part, 1, sizeof part, pipe)) listing.append(part, count);
  pclose(pipe);
  std::vector<std::string> names;
  std::istringstream lines(listing);
  for (std::string line; std::getline(lines, line);) {
    const size_t number = line.find("Test ");
    const size_t colon = line.find(": ");
    if (number == line.find_first_not_of(' ') && colon != line.npos) {
      names.push_back(line.substr(colon + 2));
    }
  }
  return names;
}

TEST(Readme, EveryCommandIsExercisedByATest) {
  const auto tests = registered_tests();
  ASSERT_FALSE(tests.empty()) << "ctest lists no tests in " << variable("SY_TEST_BUILD");
  const auto commands = commands_in(read_text("README.md"));
  ASSERT_FALSE(commands.empty());
  const auto exercises = parse_exercises(read_text("tests/readme/commands.txt"));
  for (const std::string& finding : unproven(commands, exercises, tests)) ADD_FAILURE() << finding;
}

TEST(Readme, EveryFileItNamesExists) {
  for (const std::string& path : paths_in(read_text("README.md"))) {
    EXPECT_TRUE(std::filesystem::exists(variable("SY_TEST_ROOT") + "/" + path)) << path;
  }
}

}  // namespace
}  // namespace switchyard::readme
