#pragma once
// The commands that a README shows, and the tests that exercise them.

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::readme {

// The command lines of all fenced `sh` blocks, without comments and blank lines; lines that end
// with a backslash are joined.
std::vector<std::string> commands_in(std::string_view markdown);

// What stands in backticks and looks like a file of this repository: a path with a folder and an
// extension, without wildcards or blanks.
std::vector<std::string> paths_in(std::string_view markdown);

struct Exercise {
  std::string test;  // name in CTest
  std::string command;
};
// "<test> | <command>" per line; '#' starts a comment line. Throws std::runtime_error.
std::vector<Exercise> parse_exercises(std::string_view text);

// One sentence for each command that no known test exercises, and for each exercise that the README
// does not show any more.
std::vector<std::string> unproven(const std::vector<std::string>& commands,
                                  const std::vector<Exercise>& exercises,
                                  const std::vector<std::string>& tests);

}  // namespace switchyard::readme
