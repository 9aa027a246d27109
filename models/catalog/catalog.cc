#include "models/catalog/catalog.h"

#include <algorithm>
#include <sstream>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/config/presets.h"
#include "core/config/reader.h"

namespace switchyard::models {
namespace {

// What the comment says that a preset's file begins with: a title, and somewhere "Source: X.".
PresetEntry entry_of(const std::filesystem::path& path) {
  constexpr std::string_view kSource = "# Source: ";
  std::string text;
  const std::string unreadable = config::read_config_file(path, text);
  if (!unreadable.empty()) throw ConfigError(unreadable);
  PresetEntry entry{path.stem().string(), "", ""};
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line) && line.starts_with("# ");) {
    if (entry.title.empty()) entry.title = line.substr(2);
    if (!entry.source.empty() || !line.starts_with(kSource)) continue;
    entry.source = line.substr(kSource.size());
    if (entry.source.ends_with('.')) entry.source.pop_back();
  }
  return entry;
}

std::string billions(int64_t count) {
  const double value = static_cast<double>(count);
  return value >= 1e8 ? fmt::format("{:.3f}B", value / 1e9) : fmt::format("{:.3f}M", value / 1e6);
}

}  // namespace

std::vector<CatalogEntry> catalog(const std::filesystem::path& start) {
  std::vector<CatalogEntry> entries;
  for (const std::filesystem::path& path : config::preset_files("models", start)) {
    const PresetEntry entry = entry_of(path);
    entries.push_back({entry, census(preset_run(entry.name, {}, 1).model())});
  }
  return entries;
}

std::vector<PresetEntry> recipes(const std::filesystem::path& start) {
  const std::vector<std::filesystem::path> files = config::preset_files("recipes", start);
  std::vector<PresetEntry> entries(files.size());
  std::ranges::transform(files, entries.begin(), entry_of);
  return entries;
}

std::string catalog_text(const std::vector<CatalogEntry>& models,
                         const std::vector<PresetEntry>& recipes, bool json) {
  if (json) {
    nlohmann::ordered_json lists = {{"models", nlohmann::ordered_json::array()},
                                    {"recipes", nlohmann::ordered_json::array()}};
    for (const CatalogEntry& entry : models)
      lists["models"].push_back({{"name", entry.name},
                                 {"title", entry.title},
                                 {"source", entry.source},
                                 {"total", entry.counts.total},
                                 {"active", entry.counts.active}});
    for (const PresetEntry& entry : recipes)
      lists["recipes"].push_back(
          {{"name", entry.name}, {"title", entry.title}, {"source", entry.source}});
    return lists.dump(2) + "\n";
  }
  std::string text =
      fmt::format("{:<22}{:>12}{:>11}  {}\n", "model", "parameters", "active", "source");
  for (const CatalogEntry& entry : models)
    text +=
        fmt::format("{:<22}{:>12}{:>11}  {}\n", entry.name, billions(entry.counts.total),
                    billions(entry.counts.active), entry.source.empty() ? "ours" : entry.source);
  text += fmt::format("\n{:<45}  {}\n", "recipe", "source");
  for (const PresetEntry& entry : recipes)
    text += fmt::format("{:<45}  {}\n", entry.name, entry.source);
  return text;
}

config::RunConfig preset_run(const std::string& name, const std::vector<std::string>& overrides,
                             int ranks) {
  const auto sets = [&](const char* field) {
    return std::ranges::any_of(overrides,
                               [&](const std::string& text) { return text.starts_with(field); });
  };
  const bool has_recipe = sets("recipe_preset=");
  const std::string text = fmt::format(
      "model_preset: \"{}\" {}", name,
      has_recipe ? "data { synthetic {} }"
                 : fmt::format("data {{ sequence_length: 4096 synthetic {{}} }} train {{ steps: 1 "
                               "global_batch: {} }}",
                               std::max(1, ranks)));
  config::LoadOptions options;
  options.num_ranks = ranks;
  config::RunConfig config = config::load_config_text(text, name, overrides, options);
  if (!has_recipe && !sets("train.global_batch=")) config.mutable_train()->clear_global_batch();
  return config;
}

}  // namespace switchyard::models
