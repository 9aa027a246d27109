#include "tests/layout/rules.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>

#include <fmt/format.h>

#include "tests/layout/source_scan.h"

namespace switchyard::layout {
namespace {

constexpr int kFileLines = 500;
constexpr int kFunctionLines = 60;
constexpr int kWaivedFunctionLines = 80;  // forward passes
constexpr int kArguments = 6;

const std::map<std::string, std::set<std::string>, std::less<>>& allowed_arrows() {
  static const std::map<std::string, std::set<std::string>, std::less<>> arrows = {
      {"core", {"core"}},
      {"parallel", {"core", "parallel"}},
      {"models", {"core", "parallel", "models"}},
      {"optim", {"core", "parallel", "optim"}},
      {"trainer", {"core", "parallel", "models", "optim", "trainer"}},
      {"scripts", {"core", "parallel", "models", "optim", "trainer", "scripts"}},
      {"tests", {"core", "parallel", "models", "optim", "trainer", "scripts", "tests"}}};
  return arrows;
}

// The floors of folders that are one below the other, the lowest first. Folders of one floor do not
// know each other. A folder that is not named has the floor of the one that it lies in.
const std::vector<std::vector<std::string_view>>& floors() {
  static const std::vector<std::vector<std::string_view>> lowest_first = {
      {"core/base"},
      {"core/io", "core/tensor"},
      {"core/data"},
      {"core/config"},
      {"models/pass"},
      {"models/layers"},
      {"models/moe/rules"},
      {"models/moe/router"},
      {"models/moe/placement"},
      {"models/moe/losses"},
      {"models/moe"},
      {"models"},
      {"models/inspect"},
      {"models/catalog"},
      {"trainer/machine"},
      {"trainer/log"},
      {"trainer/checkpoint"},
      {"trainer"},
      {"trainer/selfcheck"}};
  return lowest_first;
}

struct Floor {
  int number = -1;  // none: another rule holds
  std::string_view folder;
};

Floor floor_of(std::string_view path) {
  for (size_t end = path.rfind('/'); end != path.npos && end > 0; end = path.rfind('/', end - 1)) {
    const std::string_view folder = path.substr(0, end);
    int number = 0;
    for (const auto& floor : floors()) {
      if (std::ranges::find(floor, folder) != floor.end()) return {number, folder};
      ++number;
    }
  }
  return {};
}

std::string top_folder(std::string_view path) {
  return std::string(path.substr(0, path.find('/')));
}

bool starts_with_any(std::string_view text, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return text.starts_with(prefix); });
}

std::string check_own(const SourceFile& file, const std::string& target) {
  const std::string from = top_folder(file.path), to = top_folder(target);
  const auto arrows = allowed_arrows().find(from);
  if (arrows == allowed_arrows().end() || !allowed_arrows().contains(to)) {
    return "is not a path from the repository's root";
  }
  if (!arrows->second.contains(to)) return fmt::format("{} must not include {}", from, to);
  if (from != to) return {};
  const Floor here = floor_of(file.path), there = floor_of(target);
  if (here.folder == there.folder || here.number < 0 || here.number > there.number) return {};
  return fmt::format("{} must not include {}, which is not below it", here.folder, there.folder);
}

std::string check_library(const SourceFile& file, const std::string& target) {
  if (target == "torch/torch.h" || target == "ATen/ATen.h" || target == "ATen/Functions.h" ||
      target == "torch/csrc/autograd/custom_function.h") {
    return "costs seconds to compile; core/tensor/aten.h and core/tensor/differentiable.h stand "
           "for "
           "it";
  }
  const bool is_message_library = starts_with_any(target, {"mpi.h", "nccl.h"});
  if (is_message_library && !starts_with_any(file.path, {"parallel/", "tests/"})) {
    return "only parallel knows MPI and NCCL";
  }
  const bool is_torch = starts_with_any(target, {"ATen/", "torch/", "c10/"});
  if (is_torch && starts_with_any(file.path, {"core/base/", "core/config/", "core/io/"})) {
    return "this folder is free of LibTorch";
  }
  const bool is_heavy = starts_with_any(target, {"ATen/", "torch/"}) &&
                        target != "ATen/core/Tensor.h" && target != "ATen/core/TensorBase.h";
  const bool may_be_heavy = starts_with_any(file.path, {"tests/", "core/tensor/aten.h"});
  if (is_heavy && file.path.ends_with(".h") && !may_be_heavy) {
    return "a header takes only <ATen/core/Tensor.h> from LibTorch";
  }
  return {};
}

int limit_for(const std::string& where, int limit, const std::vector<Waiver>& waivers,
              std::vector<std::string>& used) {
  for (const Waiver& waiver : waivers) {
    if (waiver.where != where) continue;
    used.push_back(where);
    return waiver.limit;
  }
  return limit;
}

// Calls `act(line number, line)` for each line.
template <typename Act>
void for_each_line(std::string_view text, Act act) {
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) act(number, line);
}

}  // namespace

Findings check_includes(const SourceFile& file) {
  Findings findings;
  for (const Include& include : includes_of(file.text)) {
    const std::string problem =
        include.is_quoted ? check_own(file, include.path) : check_library(file, include.path);
    if (problem.empty()) continue;
    findings.push_back(
        fmt::format("{}:{}: {}: {}", file.path, include.line, include.path, problem));
  }
  return findings;
}

Findings check_circles(const std::vector<SourceFile>& files) {
  std::map<std::string, std::set<std::string>> includes;
  const auto unit_of = [](const std::string& path) { return path.substr(0, path.rfind('.')); };
  for (const SourceFile& file : files) {
    if (file.path.starts_with("tests/")) continue;
    const std::string unit = unit_of(file.path);
    for (const Include& include : includes_of(file.text)) {
      if (unit_of(include.path) != unit) includes[unit].insert(unit_of(include.path));
    }
  }
  // A unit that includes none of the others, or that none of them includes, is in no circle. Taking
  // such units away until there are none leaves the circles, and what lies between two of them.
  const auto leads_on = [&](const auto& unit) {
    return std::ranges::any_of(unit.second, [&](const auto& to) { return includes.contains(to); });
  };
  const auto is_led_to = [&](const auto& unit) {
    return std::ranges::any_of(
        includes, [&](const auto& other) { return other.second.contains(unit.first); });
  };
  const auto is_outside = [&](const auto& unit) { return !leads_on(unit) || !is_led_to(unit); };
  for (auto outside = std::ranges::find_if(includes, is_outside); outside != includes.end();
       outside = std::ranges::find_if(includes, is_outside)) {
    includes.erase(outside);
  }
  Findings findings;
  for (const auto& [unit, targets] : includes) {
    for (const std::string& target : targets) {
      if (!includes.contains(target)) continue;
      findings.push_back(fmt::format(
          "{}.h:1: it or its source includes {}.h, which leads back to it", unit, target));
    }
  }
  return findings;
}

std::set<char> parse_legend(std::string_view text) {
  static const std::regex entry("(?:^//|  ) {2,3}([A-Za-z])  (?=\\S)");
  std::set<char> letters;
  for_each_line(text, [&](int number, const std::string& line) {
    for (std::sregex_iterator match(line.begin(), line.end(), entry), end; match != end; ++match) {
      const char letter = (*match)[1].str()[0];
      if (letters.insert(letter).second) continue;
      throw std::runtime_error(
          fmt::format("legend, line {}: '{}' means two things", number, letter));
    }
  });
  return letters;
}

Findings check_shapes(const SourceFile& file, const std::set<char>& letters) {
  static const std::regex suffixed("\\b[a-z][a-z0-9_]*_([A-Z][A-Za-z0-9]*|[0-9][A-Z0-9]+)\\b");
  const std::string code = code_only(file.text);
  Findings findings;
  std::set<std::string> told;
  for (std::sregex_iterator match(code.begin(), code.end(), suffixed), end; match != end; ++match) {
    if (match->position() > 0 && code[match->position() - 1] == ':') continue;  // std::x_Y
    const std::string name = match->str(), suffix = (*match)[1].str();
    for (const char letter : suffix) {
      if (letter <= '9' || letters.contains(letter) || !told.insert(name).second) continue;
      findings.push_back(fmt::format("{}:{}: '{}' of {} is not in the legend of core/shapes.h",
                                     file.path, line_of(code, match->position()), letter, name));
    }
  }
  return findings;
}

std::vector<Waiver> parse_waivers(std::string_view text) {
  std::vector<Waiver> waivers;
  for_each_line(text, [&](int number, const std::string& line) {
    std::istringstream fields(line.substr(0, line.find('#')));
    Waiver waiver;
    if (!(fields >> waiver.where)) return;
    fields >> waiver.limit >> std::ws;
    std::getline(fields, waiver.reason);
    if (waiver.reason.empty()) {
      throw std::runtime_error(fmt::format(
          "waivers, line {}: expected '<where> <limit> <reason>', got '{}'", number, line));
    }
    if (waiver.where.find(':') != std::string::npos && waiver.limit > kWaivedFunctionLines) {
      throw std::runtime_error(fmt::format("waivers, line {}: no function may exceed {} lines",
                                           number, kWaivedFunctionLines));
    }
    waivers.push_back(waiver);
  });
  return waivers;
}

Findings check_sizes(const SourceFile& file, const std::vector<Waiver>& waivers,
                     std::vector<std::string>& used) {
  Findings findings;
  const int lines = static_cast<int>(std::count(file.text.begin(), file.text.end(), '\n'));
  if (lines > kFileLines && lines > limit_for(file.path, kFileLines, waivers, used)) {
    findings.push_back(
        fmt::format("{}:1: the file has {} lines; at most {}: cut it by reason to change",
                    file.path, lines, kFileLines));
  }
  for (const Function& function : functions_of(file.text)) {
    const std::string where = file.path + ":" + function.name;
    if (function.num_lines > kFunctionLines &&
        function.num_lines > limit_for(where, kFunctionLines, waivers, used)) {
      findings.push_back(fmt::format("{}:{}: {} has {} lines; at most {}", file.path, function.line,
                                     function.name, function.num_lines, kFunctionLines));
    }
    if (function.num_arguments > kArguments) {
      findings.push_back(fmt::format("{}:{}: {} has {} arguments; at most {}, then a struct",
                                     file.path, function.line, function.name,
                                     function.num_arguments, kArguments));
    }
  }
  return findings;
}

Findings check_notes(const SourceFile& file) {
  // Written in two parts so that this file keeps its own rule.
  static const std::regex note(
      "\\b(TO"
      "DO|FIX"
      "ME|XX"
      "X)\\b(?!\\(#[0-9]+\\): )");
  Findings findings;
  for_each_line(file.text, [&](int number, const std::string& line) {
    if (!std::regex_search(line, note)) return;
    findings.push_back(fmt::format(
        "{}:{}: a note of work to do needs its issue, as in WORD(#12): reason", file.path, number));
  });
  return findings;
}

Findings check_test_names(const SourceFile& file) {
  static const std::regex numbered("TEST(_F|_P)?\\(\\s*\\w+,\\s*(Test_?\\d+|DISABLED_\\w+)\\s*\\)");
  const std::string code = code_only(file.text);
  Findings findings;
  for (std::sregex_iterator match(code.begin(), code.end(), numbered), end; match != end; ++match) {
    findings.push_back(fmt::format("{}:{}: '{}' is not the name of a behaviour", file.path,
                                   line_of(code, match->position()), (*match)[2].str()));
  }
  return findings;
}

}  // namespace switchyard::layout
