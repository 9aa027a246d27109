#pragma once
// Named parts of a config: configs/<folder>/<name>.textproto holds one group (a Model, a Data, or a
// recipe for the whole run) that a run names instead of writing it out.

#include <filesystem>
#include <string>
#include <vector>

#include <google/protobuf/message.h>

#include "core/config/text_reader.h"

namespace switchyard::config {

struct PresetRequest {
  std::string field;   // "model_preset": for messages
  std::string folder;  // "models": below configs/
  std::string name;
  std::string root;                   // "model": path of the group in the run; "": the whole run
  std::filesystem::path config_path;  // the run's file; its folder and that folder's parents are
                                      // searched for configs/<folder>, then the current directory
};

// Merges the preset under `group`: what the run sets wins, and a list that the run sets replaces
// the preset's. Problems and positions are added to `result`.
void merge_preset(const PresetRequest& request, google::protobuf::Message& group,
                  ReadResult& result);

// The files of all presets in `folder`, found as merge_preset() finds them: of two with the same
// name, the one that it would take. In order of name.
std::vector<std::filesystem::path> preset_files(const std::string& folder,
                                                const std::filesystem::path& config_path);

// Reads a whole file into `text`; returns the problem or an empty string. Refuses more than 1 MiB.
std::string read_config_file(const std::filesystem::path& path, std::string& text);

}  // namespace switchyard::config
