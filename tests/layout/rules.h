#pragma once
// The rules that hold for every source file. Each check returns its findings, one sentence each,
// starting with "path:line:"; none means that the file keeps the rule.

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::layout {

struct SourceFile {
  std::string path;  // from the repository's root: "parallel/mesh.h"
  std::string text;
};

using Findings = std::vector<std::string>;

// core <- parallel <- {models, optim} <- trainer <- scripts; tests may include all. Within core,
// models and trainer the sub-folders have floors, and includes point down too. MPI and NCCL stay in
// parallel, LibTorch out of the torch-free folders, and headers take only LibTorch's smallest one.
Findings check_includes(const SourceFile& file);

// The units (a header and its source) of the product include each other in no circle.
Findings check_circles(const std::vector<SourceFile>& files);

// The letters of the legend in core/shapes.h: "//   B  sequences ...", one or two in a line.
// Throws std::runtime_error if one stands there twice.
std::set<char> parse_legend(std::string_view text);
// A suffix that lists dimensions, as in x_TD, has letters of the legend and digits alone.
Findings check_shapes(const SourceFile& file, const std::set<char>& letters);

struct Waiver {
  std::string where;  // "path" for the file's length, "path:function" for a function's
  int limit;
  std::string reason;
};
// One "<where> <limit> <reason>" per line; '#' starts a comment. Throws std::runtime_error.
std::vector<Waiver> parse_waivers(std::string_view text);

// Length of the file, length and arguments of each function. Appends the waivers that were needed
// to `used`.
Findings check_sizes(const SourceFile& file, const std::vector<Waiver>& waivers,
                     std::vector<std::string>& used);

// A note of work left to do names its issue: the word, then (#number).
Findings check_notes(const SourceFile& file);

// Tests are named after behaviours and are not disabled.
Findings check_test_names(const SourceFile& file);

}  // namespace switchyard::layout
