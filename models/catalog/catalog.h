#pragma once
// The published models and recipes under configs/: what `switchyard inspect --list` shows, and a
// preset as a run of its own.

#include <filesystem>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "models/inspect/census.h"

namespace switchyard::models {

struct CatalogEntry {
  std::string name;    // of its file, for `model_preset`
  std::string title;   // the file's first comment line
  std::string source;  // its "Source:" line; empty: a model of ours
  Census counts;
};

struct RecipeEntry {
  std::string name;  // of its file, for `recipe_preset`
  std::string title, source;
};

// Every model preset found from `start` (see core/config/presets.h), in order of name. Throws
// ConfigError when one of them is not valid.
std::vector<CatalogEntry> catalog(const std::filesystem::path& start);

// Every recipe, likewise; none is resolved, as that needs its model.
std::vector<RecipeEntry> recipes(const std::filesystem::path& start);

// Two tables, or with `json` an object of two arrays.
std::string catalog_text(const std::vector<CatalogEntry>& models,
                         const std::vector<RecipeEntry>& recipes, bool json);

// A resolved run of the named model on sequences of 4096 generated tokens, so that it can be
// inspected. It has a train.global_batch only where the overrides set one, or name a
// `recipe_preset=...`. Overrides and errors as for config::load_config.
config::RunConfig preset_run(const std::string& name, const std::vector<std::string>& overrides,
                             int ranks);

}  // namespace switchyard::models
