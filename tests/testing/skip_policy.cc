#include "tests/testing/skip_policy.h"

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>

#include <gtest/gtest.h>

namespace switchyard::testing {
namespace {

std::string read_list() {
  const char* root = std::getenv("SY_TEST_ROOT");
  std::ostringstream text;
  text << std::ifstream(std::string(root ? root : ".") + "/tests/allowed_skips.txt").rdbuf();
  return text.str();
}

class SkipPolicy : public ::testing::EmptyTestEventListener {
 public:
  explicit SkipPolicy(std::map<std::string, std::string> allowed) : allowed_(std::move(allowed)) {}

 private:
  void OnTestEnd(const ::testing::TestInfo& test) override {
    if (!test.result()->Skipped()) return;
    const std::string name = std::string(test.test_suite_name()) + "." + test.name();
    const auto reason = allowed_.find(name);
    if (reason != allowed_.end()) {
      std::cout << "skip of " << name << " is allowed: " << reason->second << "\n";
    } else {
      ADD_FAILURE() << name << " skipped itself and tests/allowed_skips.txt does not list it";
    }
  }

  std::map<std::string, std::string> allowed_;
};

}  // namespace

std::map<std::string, std::string> parse_allowed_skips(std::string_view text) {
  std::map<std::string, std::string> allowed;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line.substr(0, line.find('#')));
    std::string name, reason;
    if (!(fields >> name)) continue;
    std::getline(fields >> std::ws, reason);
    if (reason.empty()) {
      throw std::runtime_error("tests/allowed_skips.txt: '" + name + "' has no reason");
    }
    allowed[name] = reason;
  }
  return allowed;
}

void forbid_unlisted_skips() {
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  listeners.Append(new SkipPolicy(parse_allowed_skips(read_list())));  // GoogleTest owns it
}

}  // namespace switchyard::testing
