#pragma once
// The published models under configs/models/: what `switchyard inspect --list` shows, and a preset
// as a run of its own.

#include <filesystem>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "models/census.h"

namespace switchyard::models {

struct CatalogEntry {
  std::string name;    // of its file, for `model_preset`
  std::string title;   // the file's first comment line
  std::string source;  // its "Source:" line; empty: a model of ours
  Census counts;
};

// Every preset found from `start` (see core/config/presets.h), in order of name. Throws ConfigError
// when one of them is not valid.
std::vector<CatalogEntry> catalog(const std::filesystem::path& start);

// A table, or with `json` an array of objects.
std::string catalog_text(const std::vector<CatalogEntry>& entries, bool json);

// A resolved run of the named model on generated tokens, one sequence of 4096 tokens per rank, so
// that it can be inspected. Overrides and errors as for config::load_config.
config::RunConfig preset_run(const std::string& name, const std::vector<std::string>& overrides,
                             int ranks);

}  // namespace switchyard::models
