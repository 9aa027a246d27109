// Finds functions by matching braces. At namespace and class scope, the text between the last ';',
// '{' or '}' and a '{' (the header) tells what the braces hold.

#include <algorithm>
#include <array>
#include <cctype>

#include "tests/layout/source_scan.h"

namespace switchyard::layout {
namespace {

constexpr std::string_view kSpaces = " \t\r\n";

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) - begin + 1);
}

bool starts_with_word(std::string_view text, std::string_view word) {
  return text.starts_with(word) && (text.size() == word.size() || !is_word(text[word.size()]));
}

// Offset behind the bracket that closes the one at `open`.
size_t after_matching(std::string_view text, size_t open) {
  const char opening = text[open];
  const char closing = opening == '(' ? ')' : opening == '[' ? ']' : opening == '<' ? '>' : '}';
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == opening) ++depth;
    if (text[i] == closing && --depth == 0) return i + 1;
  }
  return text.size();
}

// Takes one leading word or bracketed group that says nothing about what follows off the header;
// false when there is none.
bool strip_one_prefix(std::string_view& header) {
  for (std::string_view word : {"static", "inline", "constexpr", "consteval", "const", "friend",
                                "typedef", "explicit", "virtual", "extern"}) {
    if (!starts_with_word(header, word) || header.starts_with("extern \"")) continue;
    header = trim(header.substr(word.size()));
    return true;
  }
  const std::array<std::pair<std::string_view, char>, 4> groups = {
      {{"template", '<'}, {"alignas", '('}, {"__attribute__", '('}, {"[[", '['}}};
  for (auto [word, bracket] : groups) {
    if (!header.starts_with(word)) continue;
    const size_t open = header.find(bracket);
    if (open == header.npos) continue;
    header = trim(header.substr(after_matching(header, open)));
    return true;
  }
  return false;
}

std::string_view strip_access_label(std::string_view header) {
  header = trim(header);
  for (std::string_view label : {"public:", "private:", "protected:"}) {
    if (header.starts_with(label)) return trim(header.substr(label.size()));
  }
  return header;
}

std::string_view strip_prefixes(std::string_view header) {
  header = trim(header);
  while (strip_one_prefix(header)) {
  }
  return header;
}

// First `wanted` outside of parentheses and square brackets; npos when there is none.
size_t find_outside(std::string_view text, char wanted) {
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == wanted && depth == 0) return i;
    if (c == '(' || c == '[') ++depth;
    if (c == ')' || c == ']') --depth;
  }
  return text.npos;
}

// Where the list of member initialisers of a constructor starts; npos when there is none.
size_t find_initialisers(std::string_view header) {
  const size_t arguments = find_outside(header, '(');
  if (arguments == header.npos) return header.npos;
  size_t at = after_matching(header, arguments);
  while (at < header.size()) {
    const size_t colon = find_outside(header.substr(at), ':');
    if (colon == header.npos) return header.npos;
    at += colon;
    if (at + 1 >= header.size() || header[at + 1] != ':') return at;
    at += 2;
  }
  return header.npos;
}

enum class Block { kScope, kSkipped, kFunction, kInsideHeader };

Block classify(std::string_view header) {
  if (header.starts_with("extern \"")) return Block::kScope;
  for (std::string_view word : {"namespace", "class", "struct", "union"}) {
    if (starts_with_word(header, word)) return Block::kScope;
  }
  if (starts_with_word(header, "enum")) return Block::kSkipped;
  const size_t assign = find_outside(header, '=');
  if (assign != header.npos && header.find("operator") == header.npos) {
    const bool is_lambda = trim(header.substr(assign + 1)).starts_with('[');
    return is_lambda ? Block::kFunction : Block::kInsideHeader;
  }
  if (find_outside(header, '(') == header.npos) return Block::kInsideHeader;
  // Foo() : a_{1}, b_{2} { ... }: a brace behind a member's name initialises it.
  const bool is_member_value =
      find_initialisers(header) != header.npos && (is_word(header.back()) || header.back() == '>');
  return is_member_value ? Block::kInsideHeader : Block::kFunction;
}

// Offset of the parenthesis that opens the arguments.
size_t find_arguments(std::string_view header) {
  const size_t word = header.find("operator()");
  if (word != header.npos) return header.find('(', word + 10);
  return find_outside(header, '(');
}

std::string name_in(std::string_view header) {
  const size_t open = std::min(find_arguments(header), header.size());
  const std::string_view front = trim(header.substr(0, open));
  for (std::string_view macro : {"TEST", "TEST_F", "TEST_P", "TYPED_TEST", "TYPED_TEST_P"}) {
    if (front == macro) return std::string(header);
  }
  const size_t op = front.find("operator");
  if (op != front.npos) return std::string(front.substr(op));
  const size_t assign = find_outside(front, '=');  // a lambda bound to a name
  const std::string_view named = trim(front.substr(0, std::min(assign, front.size())));
  const auto is_part = [](char c) { return is_word(c) || c == ':' || c == '~'; };
  size_t begin = named.size();
  while (begin > 0 && is_part(named[begin - 1])) --begin;
  return std::string(named.substr(begin));
}

int count_arguments(std::string_view header) {
  const size_t open = find_arguments(header);
  if (open == header.npos) return 0;
  const size_t close = after_matching(header, open) - 1;
  const std::string_view inside = trim(header.substr(open + 1, close - open - 1));
  if (inside.empty() || inside == "void") return 0;
  int depth = 0, count = 1;
  for (size_t i = 0; i < inside.size(); ++i) {
    const char c = inside[i];
    const bool is_arrow = c == '>' && i > 0 && inside[i - 1] == '-';
    if (std::string_view("([{<").find(c) != std::string_view::npos) ++depth;
    if (std::string_view(")]}>").find(c) != std::string_view::npos && !is_arrow) --depth;
    if (c == ',' && depth == 0) ++count;
  }
  return count;
}

class FunctionScan {
 public:
  explicit FunctionScan(std::string_view text) : code_(code_only(text)) {}

  std::vector<Function> run() {
    while (at_ < code_.size()) step();
    return std::move(functions_);
  }

 private:
  void step() {
    const char c = code_[at_];
    if (c == '(') ++parentheses_;
    if (c == ')') --parentheses_;
    if (c == '{') {
      open_brace();
      return;
    }
    ++at_;
    if (c == '}' || (c == ';' && parentheses_ == 0)) header_ = at_;
  }

  void open_brace() {
    const std::string_view code = code_;
    const std::string_view signature = strip_access_label(code.substr(header_, at_ - header_));
    const std::string_view header = strip_prefixes(signature);
    const Block block = parentheses_ > 0 ? Block::kInsideHeader : classify(header);
    if (block == Block::kScope) {
      header_ = ++at_;
      return;
    }
    const size_t end = after_matching(code, at_);
    if (block == Block::kFunction) record(header, signature.data() - code.data(), end);
    at_ = end;
    if (block != Block::kInsideHeader) header_ = end;
  }

  void record(std::string_view header, size_t begin, size_t end) {
    const int first = line_of(code_, begin), last = line_of(code_, end - 1);
    functions_.push_back({name_in(header), first, last - first + 1, count_arguments(header)});
  }

  std::string code_;
  size_t at_ = 0;
  size_t header_ = 0;  // where the current header starts
  int parentheses_ = 0;
  std::vector<Function> functions_;
};

}  // namespace

std::vector<Function> functions_of(std::string_view text) { return FunctionScan(text).run(); }

}  // namespace switchyard::layout
