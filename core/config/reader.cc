#include "core/config/reader.h"

#include <filesystem>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/config/defaults.h"
#include "core/config/overrides.h"
#include "core/config/presets.h"
#include "core/config/text_reader.h"
#include "core/config/unused_fields.h"
#include "core/config/validate.h"

namespace switchyard::config {
namespace {

bool names_preset(const std::string& assignment) {
  const std::string path = override_path(assignment);
  return path == "model_preset" || path == "data_preset" || path == "recipe_preset";
}

// Those overrides that name presets, or all others.
void apply_overrides(const std::vector<std::string>& overrides, bool presets, RunConfig& config,
                     ReadResult& result) {
  for (const std::string& assignment : overrides) {
    if (names_preset(assignment) != presets) continue;
    const std::string problem = apply_override(config, assignment);
    if (!problem.empty()) result.problems.push_back(problem);
    result.where[override_path(assignment)] = "--set";
  }
}

// The recipe first: it may name the other two, and what it says of the groups goes before them.
void merge_presets(const std::string& path, RunConfig& config, ReadResult& result) {
  if (config.has_recipe_preset())
    merge_preset({"recipe_preset", "recipes", config.recipe_preset(), "", path}, config, result);
  if (config.has_model_preset())
    merge_preset({"model_preset", "models", config.model_preset(), "model", path},
                 *config.mutable_model(), result);
  if (config.has_data_preset())
    merge_preset({"data_preset", "data", config.data_preset(), "data", path},
                 *config.mutable_data(), result);
  config.clear_recipe_preset();
  config.clear_model_preset();
  config.clear_data_preset();
}

// Puts the place that set the field in front of a rule's message, which begins with the field's
// path.
std::string located(const std::string& problem, const std::string& path, const ReadResult& result) {
  const auto place = result.where.find(problem.substr(0, problem.find(' ')));
  return fmt::format("{}: {}", place == result.where.end() ? path : place->second, problem);
}

// What is left to do once the file is read, or could not be: every other problem is found as well.
RunConfig resolve(RunConfig config, ReadResult result, const std::string& path,
                  const std::vector<std::string>& overrides, const LoadOptions& options) {
  apply_overrides(overrides, true, config, result);
  merge_presets(path, config, result);
  apply_overrides(overrides, false, config, result);
  if (!config.has_name()) config.set_name(std::filesystem::path(path).stem().string());
  apply_defaults(config);
  if (options.is_resolved) {
    RunConfig asked;
    for (const std::string& assignment : overrides) apply_override(asked, assignment);
    clear_unused_fields(asked, config);
  }

  // What could not be read leaves holes: asking for these fields would only mislead.
  const std::vector<std::string> broken = result.problems.empty()
                                              ? problems(config, options.num_ranks)
                                              : broken_rules(config, options.num_ranks);
  for (const std::string& problem : broken)
    result.problems.push_back(located(problem, path, result));
  if (!result.problems.empty())
    throw ConfigError(fmt::format("{}", fmt::join(result.problems, "\n")));
  return config;
}

}  // namespace

RunConfig load_config_text(std::string_view text, const std::string& file,
                           const std::vector<std::string>& overrides, const LoadOptions& options) {
  RunConfig config;
  ReadResult result = read_text({text, file, ""}, config);
  return resolve(std::move(config), std::move(result), file, overrides, options);
}

RunConfig load_config(const std::string& path, const std::vector<std::string>& overrides,
                      const LoadOptions& options) {
  std::string text;
  const std::string unreadable = read_config_file(path, text);
  if (unreadable.empty()) return load_config_text(text, path, overrides, options);
  return resolve({}, {{unreadable}, {}}, path, overrides, options);
}

}  // namespace switchyard::config
