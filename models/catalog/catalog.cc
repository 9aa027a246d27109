#include "models/catalog/catalog.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/config/presets.h"
#include "core/config/reader.h"

namespace switchyard::models {
namespace {

// The lines of the comment that a file begins with, without their "# ".
std::vector<std::string> leading_comment(const std::filesystem::path& path) {
  std::string text;
  const std::string unreadable = config::read_config_file(path, text);
  if (!unreadable.empty()) throw ConfigError(unreadable);
  std::vector<std::string> lines;
  for (size_t begin = 0; text.compare(begin, 2, "# ") == 0;) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin + 2, end - begin - 2));
    begin = std::min(end + 1, text.size());
  }
  return lines;
}

// "Source: X." -> "X".
std::string source_in(const std::vector<std::string>& comment) {
  constexpr std::string_view kMark = "Source: ";
  for (const std::string& line : comment) {
    if (!line.starts_with(kMark)) continue;
    const std::string source = line.substr(kMark.size());
    return source.ends_with('.') ? source.substr(0, source.size() - 1) : source;
  }
  return "";
}

std::string billions(int64_t count) {
  const double value = static_cast<double>(count);
  return value >= 1e8 ? fmt::format("{:.3f}B", value / 1e9) : fmt::format("{:.3f}M", value / 1e6);
}

}  // namespace

std::vector<CatalogEntry> catalog(const std::filesystem::path& start) {
  std::vector<CatalogEntry> entries;
  for (const std::filesystem::path& path : config::preset_files("models", start)) {
    const std::vector<std::string> comment = leading_comment(path);
    const std::string name = path.stem().string();
    entries.push_back({name, comment.empty() ? "" : comment.front(), source_in(comment),
                       census(preset_run(name, {}, 1).model())});
  }
  return entries;
}

std::vector<RecipeEntry> recipes(const std::filesystem::path& start) {
  std::vector<RecipeEntry> entries;
  for (const std::filesystem::path& path : config::preset_files("recipes", start)) {
    const std::vector<std::string> comment = leading_comment(path);
    entries.push_back(
        {path.stem().string(), comment.empty() ? "" : comment.front(), source_in(comment)});
  }
  return entries;
}

std::string catalog_text(const std::vector<CatalogEntry>& models,
                         const std::vector<RecipeEntry>& recipes, bool json) {
  if (json) {
    nlohmann::ordered_json lists = {{"models", nlohmann::ordered_json::array()},
                                    {"recipes", nlohmann::ordered_json::array()}};
    for (const CatalogEntry& entry : models)
      lists["models"].push_back({{"name", entry.name},
                                 {"title", entry.title},
                                 {"source", entry.source},
                                 {"total", entry.counts.total},
                                 {"active", entry.counts.active}});
    for (const RecipeEntry& entry : recipes)
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
  for (const RecipeEntry& entry : recipes)
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
                               ranks));
  config::LoadOptions options;
  options.num_ranks = ranks;
  config::RunConfig config = config::load_config_text(text, name, overrides, options);
  if (!has_recipe && !sets("train.global_batch=")) config.mutable_train()->clear_global_batch();
  return config;
}

}  // namespace switchyard::models
