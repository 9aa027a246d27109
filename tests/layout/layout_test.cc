// The rules over this repository: one test each, all offenders in one message.

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "tests/layout/rules.h"
#include "tests/layout/source_scan.h"

namespace switchyard::layout {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSourceFolders[] = {"core",    "parallel", "models",  "optim",
                                          "trainer", "scripts",  "configs", "tests"};

fs::path root() {
  const char* folder = std::getenv("SY_TEST_ROOT");
  return folder ? folder : fs::current_path();
}

std::string read_text(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

bool is_cpp(const fs::path& path) { return path.extension() == ".h" || path.extension() == ".cc"; }

// Every text file of the source folders, in a fixed order.
const std::vector<SourceFile>& sources() {
  static const std::vector<SourceFile> files = [] {
    std::vector<SourceFile> found;
    for (const char* folder : kSourceFolders) {
      for (const auto& entry : fs::recursive_directory_iterator(root() / folder)) {
        const fs::path& path = entry.path();
        const std::set<std::string> text_kinds = {".h",   ".cc",        ".proto", ".cmake",
                                                  ".txt", ".textproto", ""};
        if (!entry.is_regular_file() || !text_kinds.contains(path.extension().string())) continue;
        found.push_back({fs::relative(path, root()).string(), read_text(path)});
      }
    }
    std::sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.path < b.path; });
    return found;
  }();
  return files;
}

void expect_none(const Findings& findings) {
  for (const std::string& finding : findings) ADD_FAILURE() << finding;
}

void expect_clean(const std::function<Findings(const SourceFile&)>& check, bool only_cpp) {
  ASSERT_FALSE(sources().empty()) << "no sources below " << root();
  for (const SourceFile& file : sources()) {
    if (!only_cpp || is_cpp(file.path)) expect_none(check(file));
  }
}

TEST(Layout, IncludesPointDown) { expect_clean(check_includes, true); }

TEST(Layout, IncludesRunInNoCircle) { expect_none(check_circles(sources())); }

TEST(Layout, ShapesAreOfTheLettersInTheLegend) {
  const std::set<char> letters = parse_legend(read_text(root() / "core/shapes.h"));
  for (const SourceFile& file : sources()) {
    const bool is_product = !file.path.starts_with("tests/") && is_cpp(file.path);
    if (is_product) expect_none(check_shapes(file, letters));
  }
}

TEST(Layout, IncludedFilesOfOursExist) {
  for (const SourceFile& file : sources()) {
    if (!is_cpp(file.path)) continue;
    for (const Include& include : includes_of(file.text)) {
      if (!include.is_quoted || include.path.ends_with(".pb.h")) continue;  // generated
      const fs::path path = root() / include.path;
      EXPECT_TRUE(fs::exists(path) || fs::exists(path.string() + ".in"))  // a template of CMake's
          << file.path << ":" << include.line << ": " << include.path;
    }
  }
}

TEST(Layout, FilesFunctionsAndArgumentListsAreShort) {
  const auto waivers = parse_waivers(read_text(root() / "tests/layout/waivers.txt"));
  std::vector<std::string> used;
  expect_clean([&](const SourceFile& file) { return check_sizes(file, waivers, used); }, true);
  for (const Waiver& waiver : waivers) {
    EXPECT_NE(std::find(used.begin(), used.end(), waiver.where), used.end())
        << "tests/layout/waivers.txt: " << waiver.where << " needs no waiver any more; remove it";
  }
}

TEST(Layout, NotesOfWorkToDoNameTheirIssue) { expect_clean(check_notes, false); }

TEST(Layout, TestsAreNamedAfterBehaviours) { expect_clean(check_test_names, true); }

TEST(Layout, EachTopFolderHasAReadmeOfAtMostOnePage) {
  constexpr int kPage = 60;
  for (const char* folder :
       {"core", "parallel", "models", "optim", "trainer", "configs", "scripts", "tests", "docs"}) {
    const std::string text = read_text(root() / folder / "README.md");
    EXPECT_FALSE(text.empty()) << folder << "/README.md is missing";
    EXPECT_LE(std::count(text.begin(), text.end(), '\n'), kPage) << folder << "/README.md";
  }
}

TEST(Layout, TheReadmeIsShortAndStartsWithACommand) {
  std::istringstream lines(read_text(root() / "README.md"));
  std::string line;
  int count = 0, first_command = 0;
  while (std::getline(lines, line)) {
    ++count;
    if (first_command == 0 && line == "```sh") first_command = count + 1;
  }
  EXPECT_LE(count, 150);
  EXPECT_GT(first_command, 0) << "no fenced sh block";
  EXPECT_LE(first_command, 20);
}

}  // namespace
}  // namespace switchyard::layout
