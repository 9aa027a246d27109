// The range of every number, as the schema has it (Bounds in run_config.proto).

#include <cmath>
#include <limits>

#include "core/config/fields.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

constexpr double kLargestFloat = std::numeric_limits<float>::max();

std::string words(const Bounds& range) {
  const std::string low = range.has_above() ? fmt::format("above {}", range.above())
                                            : fmt::format("at least {}", range.least());
  if (range.has_below()) return fmt::format("{} and below {}", low, range.below());
  if (range.has_most()) return fmt::format("{} and at most {}", low, range.most());
  return "finite and " + low;
}

// A number whose text is `text`.
struct Number {
  const std::string& path;
  std::string text;
  double value;
};

void check_integer(const Number& number, const Bounds& range, Findings& findings) {
  const auto& [path, text, value] = number;
  const auto least = static_cast<int64_t>(range.least()), most = static_cast<int64_t>(range.most());
  if (value < range.least())
    findings.add("{} ({}) must be at least {}; raise it", path, text, least);
  if (range.has_most() && value > range.most())
    findings.add("{} ({}) must be at most {}; lower it", path, text, most);
}

void check_real(const Number& number, const Bounds& range, Findings& findings) {
  const auto& [path, text, value] = number;
  const bool is_high_enough = range.has_above() ? value > range.above() : value >= range.least();
  const bool is_low_enough =
      (!range.has_below() || value < range.below()) && (!range.has_most() || value <= range.most());
  if (std::isfinite(value) && value > kLargestFloat)
    findings.add("{} ({}) must be at most {}, the greatest float32; lower it", path, text,
                 kLargestFloat);
  else if (!std::isfinite(value) || !is_high_enough || !is_low_enough)
    findings.add("{} ({}) must be {}; choose a value in that range", path, text, words(range));
}

void check_group(const RunConfig& config, const Message& group, const std::string& prefix,
                 Findings& findings) {
  std::vector<const FieldDescriptor*> fields;
  group.GetReflection()->ListFields(group, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string path = prefix + field->name();
    if (field->is_repeated()) continue;
    if (is_group(*field))
      check_group(config, group.GetReflection()->GetMessage(group, field), path + ".", findings);
    if (!field->options().HasExtension(bounds)) continue;
    const auto check =
        field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE ? check_real : check_integer;
    check({path, *text_at(config, path), *number_at(config, path)},
          field->options().GetExtension(bounds), findings);
  }
}

}  // namespace

void check_ranges(const RunConfig& config, Findings& findings) {
  check_group(config, config, "", findings);
}

}  // namespace switchyard::config
