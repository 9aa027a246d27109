#pragma once
// Reflection helpers shared by the reader, the overrides and the validation: one value parsed
// strictly into one field, and fields looked up by their dotted path.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace switchyard::config {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::vector<std::string> field_names(const Descriptor& group);

inline bool is_group(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

// Sets a scalar field (appends, if it is repeated) from exactly one value in text format. Returns
// what is wrong, such as `must be a 32-bit integer, got "x"`, or an empty string. Refuses what the
// parser of Protobuf lets pass: enums by number, enums' "unset" value, NaN, infinity, strings that
// are not UTF-8.
std::string set_scalar(Message& message, const FieldDescriptor& field, const std::string& text);

// The signed integer or the double at a path such as "model.moe.top_k"; nullopt when it or a group
// on the way is unset, or when it is of another kind.
std::optional<double> number_at(const Message& message, std::string_view path);
// Any scalar at a path, as text format writes it; nullopt when it or a group on the way is unset.
std::optional<std::string> text_at(const Message& message, std::string_view path);
// Gives a double that is set another value.
void set_real_at(Message& message, std::string_view path, double value);
// Whether every part of the path is set.
bool has_at(const Message& message, std::string_view path);
// Unsets the scalar, and nothing else.
void clear_at(Message& message, std::string_view path);

}  // namespace switchyard::config
