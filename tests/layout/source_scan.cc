#include "tests/layout/source_scan.h"

#include <algorithm>
#include <cctype>

namespace switchyard::layout {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// Walks over the text once and blanks what is not wanted.
class Blanker {
 public:
  Blanker(std::string_view text, bool blank_literals)
      : text_(text), out_(text), blank_literals_(blank_literals) {}

  std::string run() {
    size_t at = 0;
    while (at < text_.size()) at = step(at);
    return std::move(out_);
  }

 private:
  // Handles what starts at `at`; returns where to go on.
  size_t step(size_t at) {
    const std::string_view rest = text_.substr(at);
    if (rest.starts_with("//")) return blank(at, std::min(text_.find('\n', at), text_.size()));
    if (rest.starts_with("/*")) return blank(at, after("*/", at + 2));
    const bool after_word = at > 0 && is_word(text_[at - 1]);
    if (rest.starts_with("R\"") && !after_word) return raw_string(at);
    if (rest[0] == '"') return literal(at);
    if (rest[0] == '\'' && !after_word) return literal(at);  // after a word: a digit separator
    return at + 1;
  }

  size_t literal(size_t at) {
    size_t end = at + 1;
    while (end < text_.size() && text_[end] != text_[at]) end += text_[end] == '\\' ? 2 : 1;
    if (blank_literals_) blank(at + 1, end);
    return std::min(end + 1, text_.size());
  }

  size_t raw_string(size_t at) {
    const size_t open = text_.find('(', at);
    if (open == std::string_view::npos) return text_.size();
    const std::string close = ")" + std::string(text_.substr(at + 2, open - at - 2)) + "\"";
    const size_t end = after(close, open);
    if (blank_literals_) blank(at, end);
    return end;
  }

  size_t after(std::string_view what, size_t from) const {
    const size_t found = text_.find(what, from);
    return found == std::string_view::npos ? text_.size() : found + what.size();
  }

  size_t blank(size_t from, size_t to) {
    to = std::min(to, out_.size());
    for (size_t i = from; i < to; ++i) {
      if (out_[i] != '\n') out_[i] = ' ';
    }
    return to;
  }

  std::string_view text_;
  std::string out_;
  bool blank_literals_;
};

void blank_preprocessor(std::string& code) {
  bool at_line_start = true, in_directive = false;
  for (size_t i = 0; i < code.size(); ++i) {
    if (code[i] == '\n') {
      in_directive = in_directive && i > 0 && code[i - 1] == '\\';
      at_line_start = true;
      if (in_directive) code[i - 1] = ' ';
    } else if (at_line_start && code[i] == '#') {
      in_directive = true;
    } else if (!std::isspace(static_cast<unsigned char>(code[i]))) {
      at_line_start = false;
    }
    if (in_directive && code[i] != '\n' && code[i] != '\\') code[i] = ' ';
  }
}

}  // namespace

std::string without_comments(std::string_view text) { return Blanker(text, false).run(); }

std::string code_only(std::string_view text) {
  std::string code = Blanker(text, true).run();
  blank_preprocessor(code);
  return code;
}

int line_of(std::string_view text, size_t offset) {
  return 1 + static_cast<int>(std::count(text.begin(), text.begin() + offset, '\n'));
}

std::vector<Include> includes_of(std::string_view text) {
  const std::string clean = without_comments(text);
  std::vector<Include> includes;
  for (size_t at = 0, line = 1; at < clean.size(); ++line) {
    const size_t end = std::min(clean.find('\n', at), clean.size());
    const std::string_view row = std::string_view(clean).substr(at, end - at);
    const size_t word = row.find("#include");
    const size_t open = row.find_first_of("\"<");
    if (word != row.npos && open != row.npos && word < open) {
      const char close = row[open] == '<' ? '>' : '"';
      const size_t stop = row.find(close, open + 1);
      includes.push_back({static_cast<int>(line),
                          std::string(row.substr(open + 1, stop - open - 1)), close == '"'});
    }
    at = end + 1;
  }
  return includes;
}

}  // namespace switchyard::layout
