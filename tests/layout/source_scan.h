#pragma once
// A small reader of C++ sources for the layout rules: not a parser, but exact on clang-formatted
// code of this project's style. It knows comments, literals (raw strings too), preprocessor lines,
// scopes and braces.

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::layout {

// The text with comments replaced by spaces. Line breaks and literals stay.
std::string without_comments(std::string_view text);

// The text with comments, the insides of literals and preprocessor lines replaced by spaces.
std::string code_only(std::string_view text);

struct Include {
  int line;
  std::string path;
  bool is_quoted;  // "path", not <path>
};
std::vector<Include> includes_of(std::string_view text);

// A function with a body, or a lambda bound to a name outside of functions.
struct Function {
  std::string
      name;       // as written: "run", "Mesh::describe", "operator==", "TEST(Router, KeepsOrder)"
  int line;       // of the signature's first word
  int num_lines;  // from there to the closing brace
  int num_arguments;
};
std::vector<Function> functions_of(std::string_view text);

// Line number, from 1, of an offset.
int line_of(std::string_view text, size_t offset);

}  // namespace switchyard::layout
