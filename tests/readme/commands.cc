#include "tests/readme/commands.h"

#include <algorithm>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace switchyard::readme {
namespace {

std::string trim(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// A '#' that begins a word starts a comment, as in the shell. Quotes are not known: a README that
// needs them does not need a '#' inside.
std::string without_comment(const std::string& line) {
  for (size_t at = line.find('#'); at != line.npos; at = line.find('#', at + 1)) {
    if (at == 0 || line[at - 1] == ' ') return trim(line.substr(0, at));
  }
  return trim(line);
}

bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

}  // namespace

std::vector<std::string> commands_in(std::string_view markdown) {
  std::vector<std::string> commands;
  std::istringstream lines{std::string(markdown)};
  std::string line, command;
  bool in_block = false;
  while (std::getline(lines, line)) {
    if (trim(line).starts_with("```")) {
      in_block = !in_block && trim(line) == "```sh";
      continue;
    }
    if (!in_block) continue;
    command += without_comment(line);
    if (command.ends_with('\\')) {
      command.pop_back();
      continue;
    }
    if (!command.empty()) commands.push_back(command);
    command.clear();
  }
  return commands;
}

std::vector<std::string> paths_in(std::string_view markdown) {
  static const std::regex path("`([\\w-]+(/[\\w.-]+)*/[\\w-]+\\.[a-z]+)`");
  const std::string text(markdown);
  std::vector<std::string> paths;
  for (std::sregex_iterator match(text.begin(), text.end(), path), end; match != end; ++match) {
    paths.push_back((*match)[1].str());
  }
  return paths;
}

std::vector<Exercise> parse_exercises(std::string_view text) {
  std::vector<Exercise> exercises;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    if (trim(line).empty() || trim(line).starts_with('#')) continue;
    const size_t bar = line.find(" | ");
    if (bar == line.npos)
      throw std::runtime_error("expected '<test> | <command>', got '" + line + "'");
    exercises.push_back({trim(line.substr(0, bar)), trim(line.substr(bar + 3))});
  }
  return exercises;
}

std::vector<std::string> unproven(const std::vector<std::string>& commands,
                                  const std::vector<Exercise>& exercises,
                                  const std::vector<std::string>& tests) {
  std::vector<std::string> findings;
  std::vector<std::string> exercised;
  for (const auto& [test, command] : exercises) {
    exercised.push_back(command);
    if (!contains(tests, test)) findings.push_back("there is no test '" + test + "': " + command);
    if (!contains(commands, command)) findings.push_back("not in the README any more: " + command);
  }
  for (const std::string& command : commands) {
    if (!contains(exercised, command)) findings.push_back("no test exercises: " + command);
  }
  return findings;
}

}  // namespace switchyard::readme
