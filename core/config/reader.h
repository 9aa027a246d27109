#pragma once
// From a file and `--set` overrides to the resolved config of a run.

#include <string>
#include <string_view>
#include <vector>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

struct LoadOptions {
  int num_ranks = 0;  // 0: not known; rules that need it are left out
  // The text is a resolved config, of which nobody chose each field: what an override leaves
  // without a reader goes, and is no error.
  bool is_resolved = false;
};

// Reads the file, sets `--set model_preset=...` and its like, merges presets under the run's own
// groups and the recipe under the whole, sets the other overrides (a later one wins), fills in
// defaults, validates. The result has every field set that a run needs and names no preset, so that
// it stands for itself in the run's folder; loading its text again gives it back.
//
// Throws ConfigError that lists every problem found, one a line, each with `file:line:column` where
// there is one. Not collective: rank 0 loads and broadcasts the bytes (print.h).
RunConfig load_config(const std::string& path, const std::vector<std::string>& overrides = {},
                      const LoadOptions& options = {});

// The same for a text that is already in memory, such as the config inside a checkpoint. `file` is
// what messages call it, where presets are searched from, and, by its stem, the default name.
RunConfig load_config_text(std::string_view text, const std::string& file,
                           const std::vector<std::string>& overrides = {},
                           const LoadOptions& options = {});

}  // namespace switchyard::config
