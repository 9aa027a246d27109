#include "core/config/print.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <google/protobuf/text_format.h>

#include "core/base/errors.h"
#include "core/config/fields.h"

namespace switchyard::config {

namespace {

using google::protobuf::Reflection;
using google::protobuf::TextFormat;

std::string value_text(const Message& message, const FieldDescriptor* field, int index) {
  std::string text;
  TextFormat::PrintFieldValueToString(message, field, index, &text);
  return text;
}

// Appends the scalars of `to` that differ from `from`; both have the same type.
void compare(const Message& from, const Message& to, const std::string& prefix,
             std::vector<std::string>& lines);

void compare_singular(const Message& from, const Message& to, const FieldDescriptor* field,
                      const std::string& path, std::vector<std::string>& lines) {
  const Reflection& reflection = *from.GetReflection();
  // An absent group compares as an empty one, so that its scalars show as unset.
  if (is_group(*field)) {
    compare(reflection.GetMessage(from, field), reflection.GetMessage(to, field), path + ".",
            lines);
    if (reflection.HasField(from, field) != reflection.HasField(to, field))
      lines.push_back(fmt::format("{}: {} -> {}", path,
                                  reflection.HasField(from, field) ? "present" : "absent",
                                  reflection.HasField(to, field) ? "present" : "absent"));
    return;
  }
  const auto text = [&](const Message& message) {
    return reflection.HasField(message, field) ? value_text(message, field, -1)
                                               : std::string("unset");
  };
  if (text(from) != text(to))
    lines.push_back(fmt::format("{}: {} -> {}", path, text(from), text(to)));
}

// All values of a list of scalars.
std::string list_text(const Message& message, const FieldDescriptor* field) {
  std::string text;
  for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i)
    text += (i > 0 ? ", " : "") + value_text(message, field, i);
  return "[" + text + "]";
}

void compare_list(const Message& from, const Message& to, const FieldDescriptor* field,
                  const std::string& path, std::vector<std::string>& lines) {
  const Reflection& reflection = *from.GetReflection();
  if (!is_group(*field)) {
    const std::string before = list_text(from, field), after = list_text(to, field);
    if (before != after) lines.push_back(fmt::format("{}: {} -> {}", path, before, after));
    return;
  }
  const int from_size = reflection.FieldSize(from, field);
  const int to_size = reflection.FieldSize(to, field);
  const std::unique_ptr<Message> empty(google::protobuf::MessageFactory::generated_factory()
                                           ->GetPrototype(field->message_type())
                                           ->New());
  for (int i = 0; i < std::max(from_size, to_size); ++i) {
    const Message& a = i < from_size ? reflection.GetRepeatedMessage(from, field, i) : *empty;
    const Message& b = i < to_size ? reflection.GetRepeatedMessage(to, field, i) : *empty;
    compare(a, b, fmt::format("{}[{}].", path, i), lines);
  }
}

void compare(const Message& from, const Message& to, const std::string& prefix,
             std::vector<std::string>& lines) {
  const Descriptor& group = *from.GetDescriptor();
  for (int i = 0; i < group.field_count(); ++i) {
    const FieldDescriptor* field = group.field(i);
    const std::string path = prefix + field->name();
    if (field->is_repeated())
      compare_list(from, to, field, path, lines);
    else
      compare_singular(from, to, field, path, lines);
  }
}

}  // namespace

std::string to_text(const RunConfig& config) {
  TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);
  printer.SetUseUtf8StringEscaping(true);
  std::string text;
  SY_CHECK(printer.PrintToString(config, &text), "a config could not be printed");
  return text;
}

std::string serialize(const RunConfig& config) { return config.SerializeAsString(); }

RunConfig parse(const std::string& bytes) {
  RunConfig config;
  SY_CHECK(config.ParseFromString(bytes), "{} bytes of a config could not be parsed", bytes.size());
  return config;
}

std::vector<std::string> differences(const RunConfig& from, const RunConfig& to) {
  std::vector<std::string> lines;
  compare(from, to, "", lines);
  return lines;
}

}  // namespace switchyard::config
