#pragma once
// A config as text, as bytes, and as the difference to another.

#include <string>
#include <vector>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Text format in the schema's order; reading it gives the same config.
std::string to_text(const RunConfig& config);

// For the broadcast from rank 0: ranks that parse the same bytes cannot disagree.
std::string serialize(const RunConfig& config);
RunConfig parse(const std::string& bytes);  // throws CheckError: the bytes are our own

// One line per scalar that differs: "optimizer.lr: 0.001 -> 0.002", with "unset" for an absent one.
std::vector<std::string> differences(const RunConfig& from, const RunConfig& to);

}  // namespace switchyard::config
