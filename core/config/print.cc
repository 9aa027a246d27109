#include "core/config/print.h"

#include <algorithm>

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

// A scalar, or all of a list of scalars.
std::string text_of(const Message& message, const FieldDescriptor* field) {
  const Reflection& reflection = *message.GetReflection();
  if (!field->is_repeated())
    return reflection.HasField(message, field) ? value_text(message, field, -1) : "unset";
  std::string text;
  for (int i = 0; i < reflection.FieldSize(message, field); ++i)
    text += (i > 0 ? ", " : "") + value_text(message, field, i);
  return "[" + text + "]";
}

// Appends the scalars of `to` that differ from `from`; both have the same type.
void compare(const Message& from, const Message& to, const std::string& prefix,
             std::vector<Difference>& found);

void compare_group(const Message& from, const Message& to, const FieldDescriptor* field,
                   const std::string& path, std::vector<Difference>& found) {
  const Reflection& reflection = *from.GetReflection();
  // An absent group compares as an empty one, so that its scalars show as unset.
  compare(reflection.GetMessage(from, field), reflection.GetMessage(to, field), path + ".", found);
  const auto word = [&](const Message& message) {
    return reflection.HasField(message, field) ? "present" : "absent";
  };
  if (reflection.HasField(from, field) != reflection.HasField(to, field))
    found.push_back({path, word(from), word(to), may_change_on_resume(*field)});
}

void compare_groups(const Message& from, const Message& to, const FieldDescriptor* field,
                    const std::string& path, std::vector<Difference>& found) {
  const Reflection& reflection = *from.GetReflection();
  const int from_size = reflection.FieldSize(from, field);
  const int to_size = reflection.FieldSize(to, field);
  const Message& empty =
      *google::protobuf::MessageFactory::generated_factory()->GetPrototype(field->message_type());
  for (int i = 0; i < std::max(from_size, to_size); ++i) {
    const Message& a = i < from_size ? reflection.GetRepeatedMessage(from, field, i) : empty;
    const Message& b = i < to_size ? reflection.GetRepeatedMessage(to, field, i) : empty;
    compare(a, b, fmt::format("{}[{}].", path, i), found);
  }
}

void compare(const Message& from, const Message& to, const std::string& prefix,
             std::vector<Difference>& found) {
  const Descriptor& group = *from.GetDescriptor();
  for (int i = 0; i < group.field_count(); ++i) {
    const FieldDescriptor* field = group.field(i);
    const std::string path = prefix + field->name();
    if (is_group(*field)) {
      (field->is_repeated() ? compare_groups : compare_group)(from, to, field, path, found);
      continue;
    }
    const std::string before = text_of(from, field), after = text_of(to, field);
    if (before != after) found.push_back({path, before, after, may_change_on_resume(*field)});
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

bool may_change_on_resume(const FieldDescriptor& field) {
  if (field.options().HasExtension(may_change)) return field.options().GetExtension(may_change);
  return field.containing_type()->options().GetExtension(fields_may_change);
}

std::vector<Difference> differences(const RunConfig& from, const RunConfig& to) {
  std::vector<Difference> found;
  compare(from, to, "", found);
  return found;
}

}  // namespace switchyard::config
