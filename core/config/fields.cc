#include "core/config/fields.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include "core/base/errors.h"
#include "core/base/foreign_text.h"
#include "core/config/suggest.h"
#include "core/data/utf8.h"

namespace switchyard::config {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::TextFormat;

// The text parser logs to stderr unless its errors are collected; set_scalar words its own. It
// takes a text without its last quote, and tells of the error here alone.
class AnyError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int, google::protobuf::io::ColumnNumber, const std::string&) override {
    happened = true;
  }
  bool happened = false;
};

const char* expected_kind(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return "a 32-bit integer";
    case FieldDescriptor::CPPTYPE_INT64:
      return "a 64-bit integer";
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a non-negative integer";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    default:
      return "a text in quotes";
  }
}

std::string enum_problem(const EnumDescriptor& choices, const std::string& text) {
  const auto* value = choices.FindValueByName(text);
  if (value != nullptr && value->number() != 0) return "";
  std::vector<std::string> names;
  for (int i = 0; i < choices.value_count(); ++i)
    if (choices.value(i)->number() != 0) names.push_back(choices.value(i)->name());
  if (value != nullptr)
    return fmt::format("must be a choice; {} stands for \"unset\": leave the field out{}", text,
                       suggestion("", names));
  return fmt::format("must be one of {}'s names, got {}{}", choices.name(), in_quotes(text),
                     suggestion(text, names));
}

// What the parser lets pass, looked at after the value is in its field.
std::string value_problem(const Message& message, const FieldDescriptor& field) {
  const auto* reflection = message.GetReflection();
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {  // no list has numbers
    const double value = reflection->GetDouble(message, &field);
    if (!std::isfinite(value)) return fmt::format("must be a finite number, got {}", value);
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    const int last = field.is_repeated() ? reflection->FieldSize(message, &field) - 1 : 0;
    const std::string value = field.is_repeated()
                                  ? reflection->GetRepeatedString(message, &field, last)
                                  : reflection->GetString(message, &field);
    if (valid_utf8_prefix(value) != value.size())
      return fmt::format("must be valid UTF-8, got {}", in_quotes(value));
  }
  return "";
}

// The message that holds the path's last part, and that part's field; null when a group is unset.
std::pair<const Message*, const FieldDescriptor*> find(const Message& message,
                                                       std::string_view path) {
  const size_t dot = path.find('.');
  const std::string name(path.substr(0, dot));
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  SY_CHECK(field != nullptr && !field->is_repeated(), "no singular field {} in {}", name,
           message.GetDescriptor()->full_name());
  const auto* reflection = message.GetReflection();
  if (!reflection->HasField(message, field)) return {nullptr, nullptr};
  if (dot == std::string_view::npos) return {&message, field};
  return find(reflection->GetMessage(message, field), path.substr(dot + 1));
}

std::pair<Message*, const FieldDescriptor*> find_mutable(Message& message, std::string_view path) {
  const auto [owner, field] = find(message, path);
  return {const_cast<Message*>(owner), field};  // a part of `message`
}

}  // namespace

std::vector<std::string> field_names(const Descriptor& group) {
  std::vector<std::string> names;
  for (int i = 0; i < group.field_count(); ++i) names.push_back(group.field(i)->name());
  return names;
}

std::string set_scalar(Message& message, const FieldDescriptor& field, const std::string& text) {
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    std::string problem = enum_problem(*field.enum_type(), text);
    if (!problem.empty()) return problem;
  }
  AnyError error;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (!parser.ParseFieldValueFromString(text, &field, &message) || error.happened)
    return fmt::format("must be {}, got {}", expected_kind(field), in_quotes(text));
  return value_problem(message, field);
}

std::optional<double> number_at(const Message& message, std::string_view path) {
  const auto [owner, field] = find(message, path);
  if (owner == nullptr) return std::nullopt;
  const auto& reflection = *owner->GetReflection();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return reflection.GetInt32(*owner, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(reflection.GetInt64(*owner, field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.GetDouble(*owner, field);
    default:
      return std::nullopt;
  }
}

std::optional<std::string> text_at(const Message& message, std::string_view path) {
  const auto [owner, field] = find(message, path);
  if (owner == nullptr || is_group(*field)) return std::nullopt;
  std::string text;
  TextFormat::PrintFieldValueToString(*owner, field, -1, &text);
  return text;
}

void set_real_at(Message& message, std::string_view path, double value) {
  const auto [owner, field] = find_mutable(message, path);
  SY_CHECK(owner != nullptr, "{} is not set in {}", path, message.GetDescriptor()->full_name());
  owner->GetReflection()->SetDouble(owner, field, value);
}

bool has_at(const Message& message, std::string_view path) {
  return find(message, path).first != nullptr;
}

void clear_at(Message& message, std::string_view path) {
  const auto [owner, field] = find_mutable(message, path);
  if (owner != nullptr) owner->GetReflection()->ClearField(owner, field);
}

}  // namespace switchyard::config
