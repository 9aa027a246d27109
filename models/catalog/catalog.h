#pragma once
// The published models and recipes under configs/: what `switchyard inspect --list` shows, and a
// preset as a run of its own.

#include <filesystem>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "models/inspect/census.h"

namespace switchyard::models {

// A file under configs/models or configs/recipes.
struct PresetEntry {
  std::string name;    // of the file, for `model_preset` or `recipe_preset`
  std::string title;   // the file's first comment line
  std::string source;  // its "Source:" line; empty: ours
};

struct CatalogEntry : PresetEntry {
  Census counts;
};

// Every model preset found from `start` (see core/config/presets.h), in order of name. Throws
// ConfigError when one of them is not valid.
std::vector<CatalogEntry> catalog(const std::filesystem::path& start);

// Every recipe, likewise; none is resolved, as that needs its model.
std::vector<PresetEntry> recipes(const std::filesystem::path& start);

// Both lists as tables, or with `json` as an object of two arrays.
std::string catalog_text(const std::vector<CatalogEntry>& models,
                         const std::vector<PresetEntry>& recipes, bool json);

// A resolved run of the named model on sequences of 4096 generated tokens, so that it can be
// inspected. It has a train.global_batch only where the overrides set one, or name a
// `recipe_preset=...`. ranks 0: not known. Overrides and errors as for config::load_config.
config::RunConfig preset_run(const std::string& name, const std::vector<std::string>& overrides,
                             int ranks);

}  // namespace switchyard::models
