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
  if (file.path.starts_with("core/base/") && !target.starts_with("core/base/")) {
    return "core/base includes no other folder";
  }
  return {};
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
