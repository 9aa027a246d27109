#include "core/config/overrides.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "core/base/foreign_text.h"
#include "core/config/fields.h"
#include "core/config/suggest.h"
#include "core/data/utf8.h"

namespace switchyard::config {
namespace {

// One part of a path: "train[0]" is name "train", index 0.
struct Part {
  std::string name;
  std::optional<int> index;
};

std::optional<Part> parse_part(std::string_view text) {
  const size_t bracket = text.find('[');
  Part part{std::string(text.substr(0, bracket)), std::nullopt};
  if (bracket == std::string_view::npos) return part;
  const std::string_view digits = text.substr(bracket + 1);
  // Up to 6 digits: far more elements than a config has, and no overflow.
  if (digits.size() < 2 || digits.size() > 7 || digits.back() != ']') return std::nullopt;
  int index = 0;
  for (const char c : digits.substr(0, digits.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    index = 10 * index + (c - '0');
  }
  part.index = index;
  return part;
}

// Walks down to the field that a path names, making groups on the way.
class Target {
 public:
  explicit Target(Message& config) : message_(&config) {}

  // One step down; returns the problem or an empty string.
  std::string step(std::string_view text, bool last) {
    const auto part = parse_part(text);
    if (!part) return fmt::format("{} is not a field or field[index]", in_quotes(text));
    const Descriptor* group = message_->GetDescriptor();
    field_ = group->FindFieldByName(part->name);
    if (field_ == nullptr)
      return fmt::format("{} has no field {}{}", path_.empty() ? "the config" : path_,
                         in_quotes(part->name), suggestion(part->name, field_names(*group)));
    if (!path_.empty()) path_ += '.';
    path_ += text;
    if (part->index.has_value() != field_->is_repeated())
      return field_->is_repeated() ? fmt::format("{0} is a list; write {0}[0]", path_)
                                   : fmt::format("{} is not a list; leave the index out", path_);
    index_ = part->index;
    if (index_ && *index_ > size())
      return fmt::format("{} is past the end: the list has {} element(s), {} is the next to add",
                         path_, size(), size());
    if (!is_group(*field_))
      return last ? "" : fmt::format("{} is a single value and has no fields", path_);
    if (last)
      return fmt::format("{} is a group of fields; set one of them{}", path_,
                         suggestion("", field_names(*field_->message_type())));
    descend();
    return "";
  }

  std::string set(const std::string& value) {
    const int elements = index_ ? size() : 0;
    if (!index_) message_->GetReflection()->ClearField(message_, field_);
    const std::string problem = parse(value);
    if (index_) keep_one(elements);
    return problem.empty() ? "" : fmt::format("{} {}", path_, problem);
  }

 private:
  int size() const { return message_->GetReflection()->FieldSize(*message_, field_); }

  void descend() {
    const auto* reflection = message_->GetReflection();
    if (!index_)
      message_ = reflection->MutableMessage(message_, field_);
    else
      message_ = *index_ == size() ? reflection->AddMessage(message_, field_)
                                   : reflection->MutableRepeatedMessage(message_, field_, *index_);
  }

  // Sets the field, or appends to the list; returns the problem or an empty string.
  std::string parse(const std::string& value) {
    const auto* reflection = message_->GetReflection();
    const bool quotes = !value.empty() && (value[0] == '"' || value[0] == '\'');
    if (field_->cpp_type() != FieldDescriptor::CPPTYPE_STRING || quotes)
      return set_scalar(*message_, *field_, value);
    if (valid_utf8_prefix(value) != value.size()) return "must be valid UTF-8";
    if (index_)
      reflection->AddString(message_, field_, value);
    else
      reflection->SetString(message_, field_, value);
    return "";
  }

  // Moves what was appended to a list of so many elements to the one that the path names.
  void keep_one(int elements) {
    if (size() == elements || *index_ == elements) return;
    message_->GetReflection()->SwapElements(message_, field_, *index_, elements);
    message_->GetReflection()->RemoveLast(message_, field_);
  }

  Message* message_;
  const FieldDescriptor* field_ = nullptr;
  std::optional<int> index_;  // of the field's element, where it is a list
  std::string path_;
};

}  // namespace

std::string override_path(const std::string& assignment) {
  return assignment.substr(0, assignment.find('='));
}

std::string apply_override(Message& config, const std::string& assignment) {
  const auto problem = [&](const std::string& text) {
    return fmt::format("--set {}: {}", in_quotes(assignment), text);
  };
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    return problem("must be path=value, such as model.moe.top_k=2");
  const std::string path = assignment.substr(0, equals);
  Target target(config);
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    const std::string wrong =
        target.step(std::string_view(path).substr(begin, end - begin), end == path.size());
    if (!wrong.empty()) return problem(wrong);
    begin = end + 1;
  }
  const std::string wrong = target.set(assignment.substr(equals + 1));
  return wrong.empty() ? "" : problem(wrong);
}

}  // namespace switchyard::config
