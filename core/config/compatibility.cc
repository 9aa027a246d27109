#include "core/config/compatibility.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "core/config/fields.h"

namespace switchyard::config {
namespace {

// Takes the prefix away from `words` where they begin with it.
bool take(std::string_view prefix, std::string_view& words) {
  const bool found = words.starts_with(prefix);
  if (found) words.remove_prefix(prefix.size());
  return found;
}

// Whether the value is one of "A or B or C".
bool is_among(std::string_view value, std::string_view choices) {
  constexpr std::string_view kOr = " or ";
  for (;;) {
    const size_t end = choices.find(kOr);
    if (choices.substr(0, end) == value) return true;
    if (end == std::string_view::npos) return false;
    choices.remove_prefix(end + kOr.size());
  }
}

double number(std::string_view words) { return std::strtod(words.data(), nullptr); }

// "must be 1", "must not be set", "must be set"
std::string demand(std::string_view wanted) {
  if (wanted == "unset") return "must not be set";
  if (take("not ", wanted)) return fmt::format("must not be {}", wanted);
  return fmt::format("must be {}", wanted);
}

// A term that holds, with the value by which it does: "model.moe.top_k 1".
std::string circumstance(const Term& term, const RunConfig& config) {
  if (term.wanted == std::string_view("unset")) return fmt::format("{} unset", term.path);
  const auto value = text_at(config, term.path);
  return fmt::format("{}{}", term.path, value ? " " + *value : "");
}

}  // namespace

bool holds(const Term& term, const RunConfig& config) {
  std::string_view wanted = term.wanted;
  if (wanted == "set") return has_at(config, term.path);
  if (wanted == "unset") return !has_at(config, term.path);
  const auto value = text_at(config, term.path);
  if (!value) return false;
  if (take("above ", wanted)) return number_at(config, term.path) > number(wanted);
  if (take("at least ", wanted)) return number_at(config, term.path) >= number(wanted);
  if (take("not ", wanted)) return !is_among(*value, wanted);
  return is_among(*value, wanted);
}

std::optional<std::string> broken_by(const Rule& rule, const RunConfig& config) {
  const bool says_nothing =
      !has_at(config, rule.field.path) && rule.field.wanted != std::string_view("set");
  if (says_nothing || holds(rule.field, config)) return std::nullopt;
  std::string circumstances;
  for (const Term& term : rule.with.all) {
    if (term.path == nullptr) break;
    if (!holds(term, config)) return std::nullopt;
    circumstances += (circumstances.empty() ? "with " : " and ") + circumstance(term, config);
  }
  const auto value = text_at(config, rule.field.path);
  return fmt::format("{}{} {} {}{}{}; {}", rule.field.path, value ? " (" + *value + ")" : "",
                     demand(rule.field.wanted), circumstances, rule.because ? ": " : "",
                     rule.because ? rule.because : "", rule.remedy);
}

}  // namespace switchyard::config
