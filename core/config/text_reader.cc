#include "core/config/text_reader.h"

#include <algorithm>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>

#include "core/base/foreign_text.h"
#include "core/config/fields.h"
#include "core/config/suggest.h"
#include "core/data/utf8.h"

namespace switchyard::config {
namespace {

using google::protobuf::TextFormat;
using google::protobuf::io::ArrayInputStream;
using google::protobuf::io::ColumnNumber;
using google::protobuf::io::Tokenizer;

constexpr int kDeepest = 32;          // levels of nesting
constexpr size_t kMostProblems = 50;  // a file of noise is not worth more lines

// Collects problems with their position; also what Protobuf's tokenizer and parser report to.
class Problems : public google::protobuf::io::ErrorCollector {
 public:
  explicit Problems(std::string file) : file_(std::move(file)) {}

  std::string position(int line, int column) const {
    return fmt::format("{}:{}:{}", file_, line + 1, column + 1);
  }
  void AddError(int line, ColumnNumber column, const std::string& message) override {
    found_.insert({{line, column}, fmt::format("{}: {}", position(line, column), message)});
  }
  bool empty() const { return found_.empty(); }
  std::vector<std::string> list() const {
    std::vector<std::string> lines;
    for (const auto& [where, line] : found_) {
      if (lines.size() == kMostProblems) {
        lines.push_back(fmt::format("{}: {} more problems", file_, found_.size() - kMostProblems));
        break;
      }
      lines.push_back(line);
    }
    return lines;
  }

 private:
  std::string file_;
  std::multimap<std::pair<int, int>, std::string> found_;
};

struct Stop {};  // the structure is broken: nothing after this point can be understood

std::string join(const std::string& path, const std::string& name) {
  return path.empty() ? name : path + "." + name;
}

// A recursive walk over the tokens, led by the schema.
class Walk {
 public:
  Walk(const TextSource& source, Problems& problems)
      : input_(source.text.data(), static_cast<int>(source.text.size())),
        tokens_(&input_, &problems),
        problems_(problems) {
    tokens_.set_comment_style(Tokenizer::SH_COMMENT_STYLE);
    tokens_.Next();
  }

  // Fields up to `close`, or to the end of the text when `close` is empty.
  void read_fields(Message& message, const std::string& path, const std::string& close) {
    std::map<std::string, std::string> first_seen;
    while (!at(close)) {
      read_field(message, path, first_seen);
      if (!accept(",")) accept(";");
    }
  }

  std::map<std::string, std::string> where;  // every field's position, by its path
  int num_fields = 0;

 private:
  const Tokenizer::Token& token() { return tokens_.current(); }
  bool at_end() { return token().type == Tokenizer::TYPE_END; }
  bool at(const std::string& symbol) { return symbol.empty() ? at_end() : token().text == symbol; }
  bool accept(const std::string& symbol) {
    if (at_end() || token().text != symbol) return false;
    tokens_.Next();
    return true;
  }
  std::string position() { return problems_.position(token().line, token().column); }
  void report(const std::string& message) {
    problems_.AddError(token().line, token().column, message);
  }
  [[noreturn]] void stop(const std::string& expected) {
    report(fmt::format("expected {}, got {}", expected,
                       at_end() ? "the end of the file" : in_quotes(token().text)));
    throw Stop{};
  }

  void read_field(Message& message, const std::string& path,
                  std::map<std::string, std::string>& first_seen) {
    if (token().type != Tokenizer::TYPE_IDENTIFIER)
      stop(path.empty() ? "a field's name" : fmt::format("a field's name or the end of {}", path));
    ++num_fields;
    const std::string name = token().text;
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
    if (field == nullptr) {
      report(fmt::format("{} has no field {}{}", path.empty() ? "the config" : path,
                         in_quotes(name), suggestion(name, field_names(*message.GetDescriptor()))));
      tokens_.Next();
      return skip_value();
    }
    const std::string field_path = join(path, name);
    const bool again = !first_seen.insert({name, position()}).second && !field->is_repeated();
    if (again)
      report(fmt::format("{} is set twice, first at {}; keep one", field_path, first_seen[name]));
    else
      where.insert({field_path, position()});
    tokens_.Next();
    // The second value is read for its own problems only: the first one stays.
    std::unique_ptr<Message> unused(again ? message.New() : nullptr);
    read_value(again ? *unused : message, *field, field_path);
  }

  void read_value(Message& message, const FieldDescriptor& field, const std::string& path) {
    const bool colon = accept(":");
    if (!colon && !is_group(field)) stop(fmt::format("\":\" after {}", path));
    if (!field.is_repeated() || !accept("[")) return read_item(message, field, path);
    while (!at("]")) {
      read_item(message, field, path);
      if (!accept(",") && !at("]")) stop(fmt::format("\",\" or \"]\" in {}", path));
    }
    tokens_.Next();
  }

  void read_item(Message& message, const FieldDescriptor& field, const std::string& path) {
    const bool opens = at("{") || at("<");
    if (is_group(field) && opens) return read_group(message, field, path);
    if (is_group(field) || opens || at("[")) {
      report(is_group(field)
                 ? fmt::format("{0} is a group of fields; write {0} {{ ... }}", path)
                 : fmt::format("{} must be one value, got {}", path, in_quotes(token().text)));
      return skip_value();
    }
    const int line = token().line, column = token().column;
    const std::string problem = set_scalar(message, field, scalar_text(path));
    if (!problem.empty()) problems_.AddError(line, column, fmt::format("{} {}", path, problem));
  }

  void read_group(Message& message, const FieldDescriptor& field, const std::string& path) {
    if (++depth_ > kDeepest) stop(fmt::format("at most {} levels of nesting", kDeepest));
    const std::string close = at("{") ? "}" : ">";
    tokens_.Next();
    const auto* reflection = message.GetReflection();
    const bool repeated = field.is_repeated();
    Message* group = repeated ? reflection->AddMessage(&message, &field)
                              : reflection->MutableMessage(&message, &field);
    const int index = repeated ? reflection->FieldSize(message, &field) - 1 : 0;
    read_fields(*group, repeated ? fmt::format("{}[{}]", path, index) : path, close);
    tokens_.Next();
    --depth_;
  }

  // The text of one value: a name, a number with its sign, or strings that follow each other.
  std::string scalar_text(const std::string& path) {
    std::string text = accept("-") ? "-" : "";
    if (at_end() || token().type == Tokenizer::TYPE_SYMBOL)
      stop(path.empty() ? "a value" : fmt::format("a value for {}", path));
    const bool is_string = token().type == Tokenizer::TYPE_STRING;
    do {
      text += token().text;
      tokens_.Next();
    } while (is_string && token().type == Tokenizer::TYPE_STRING);
    return text;
  }

  // Steps over the value of a field that is not known.
  void skip_value() {
    accept(":");
    if (!at("{") && !at("<") && !at("[")) {
      scalar_text("");
      return;
    }
    int open = 0;
    do {
      if (at_end()) stop("the end of a group");
      if (at("{") || at("<") || at("[")) ++open;
      if (at("}") || at(">") || at("]")) --open;
      if (depth_ + open > kDeepest) stop(fmt::format("at most {} levels of nesting", kDeepest));
      tokens_.Next();
    } while (open > 0);
  }

  ArrayInputStream input_;
  Tokenizer tokens_;
  Problems& problems_;
  int depth_ = 0;
};

void report_invalid_utf8(std::string_view text, size_t offset, Problems& problems) {
  const std::string_view before = text.substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n');
  const size_t line_start = line == 0 ? 0 : before.rfind('\n') + 1;
  problems.AddError(static_cast<int>(line), static_cast<int>(offset - line_start),
                    fmt::format("byte 0x{:02x} is not valid UTF-8; save the file as UTF-8",
                                static_cast<unsigned char>(text[offset])));
}

// Protobuf's parser over the whole text; its message replaces ours.
void confirm(const TextSource& source, Problems& problems, Message& out) {
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&problems);
  parser.SetRecursionLimit(kDeepest);
  parser.ParseFromString(std::string(source.text), &out);
}

}  // namespace

ReadResult read_text(const TextSource& source, Message& out) {
  Problems problems(source.file);
  const size_t valid = valid_utf8_prefix(source.text);
  if (valid != source.text.size()) {
    report_invalid_utf8(source.text, valid, problems);
    return {problems.list(), {}};
  }
  Walk walk(source, problems);
  try {
    walk.read_fields(out, source.root, "");
    if (walk.num_fields == 0 && problems.empty())
      problems.AddError(0, 0, "the file sets nothing; start from configs/debug.textproto");
  } catch (const Stop&) {
  }
  if (problems.empty()) confirm(source, problems, out);
  return {problems.list(), std::move(walk.where)};
}

}  // namespace switchyard::config
