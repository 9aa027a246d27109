#include "core/config/fields.h"

#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include "core/base/errors.h"
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
    case FieldDescriptor::CPPTYPE_UINT32:
    case FieldDescriptor::CPPTYPE_UINT64:
      return "a non-negative integer";
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_STRING:
      return "a text in quotes";
    default:
      return "a value";
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
  return fmt::format("must be one of {}'s names, got {}{}", choices.name(), quote(text),
                     suggestion(text, names));
}

// What the parser lets pass, looked at after the value is in its field.
std::string value_problem(const Message& message, const FieldDescriptor& field) {
  const auto* reflection = message.GetReflection();
  const bool repeated = field.is_repeated();
  const int last = repeated ? reflection->FieldSize(message, &field) - 1 : 0;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    const double value = repeated ? reflection->GetRepeatedDouble(message, &field, last)
                                  : reflection->GetDouble(message, &field);
    if (!std::isfinite(value)) return fmt::format("must be a finite number, got {}", value);
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
    const std::string value = repeated ? reflection->GetRepeatedString(message, &field, last)
                                       : reflection->GetString(message, &field);
    if (valid_utf8_prefix(value) != value.size())
      return fmt::format("must be valid UTF-8, got {}", quote(value));
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
    return fmt::format("must be {}, got {}", expected_kind(field), quote(text));
  return value_problem(message, field);
}

std::optional<int64_t> integer_at(const Message& message, std::string_view path) {
  const auto [owner, field] = find(message, path);
  if (owner == nullptr) return std::nullopt;
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT32)
    return owner->GetReflection()->GetInt32(*owner, field);
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64)
    return owner->GetReflection()->GetInt64(*owner, field);
  return std::nullopt;
}

std::optional<double> real_at(const Message& message, std::string_view path) {
  const auto [owner, field] = find(message, path);
  if (owner == nullptr || field->cpp_type() != FieldDescriptor::CPPTYPE_DOUBLE) return std::nullopt;
  return owner->GetReflection()->GetDouble(*owner, field);
}

std::optional<std::string> text_at(const Message& message, std::string_view path) {
  const auto [owner, field] = find(message, path);
  if (owner == nullptr || is_group(*field)) return std::nullopt;
  std::string text;
  TextFormat::PrintFieldValueToString(*owner, field, -1, &text);
  return text;
}

std::optional<double> number_at(const Message& message, std::string_view path) {
  const auto integer = integer_at(message, path);
  return integer ? static_cast<double>(*integer) : real_at(message, path);
}

void set_real_at(Message& message, std::string_view path, double value) {
  const size_t dot = path.find('.');
  const auto* reflection = message.GetReflection();
  const FieldDescriptor* field =
      message.GetDescriptor()->FindFieldByName(std::string(path.substr(0, dot)));
  SY_CHECK(field != nullptr && reflection->HasField(message, field), "{} is not set in {}", path,
           message.GetDescriptor()->full_name());
  if (dot == std::string_view::npos)
    reflection->SetDouble(&message, field, value);
  else
    set_real_at(*reflection->MutableMessage(&message, field), path.substr(dot + 1), value);
}

bool has_at(const Message& message, std::string_view path) {
  return find(message, path).first != nullptr;
}

void clear_at(Message& message, std::string_view path) {
  const size_t dot = path.find('.');
  const FieldDescriptor* field =
      message.GetDescriptor()->FindFieldByName(std::string(path.substr(0, dot)));
  SY_CHECK(field != nullptr, "no field {} in {}", path, message.GetDescriptor()->full_name());
  const auto* reflection = message.GetReflection();
  if (!reflection->HasField(message, field)) return;
  if (dot == std::string_view::npos) return reflection->ClearField(&message, field);
  clear_at(*reflection->MutableMessage(&message, field), path.substr(dot + 1));
}

}  // namespace switchyard::config
