#pragma once
// The terms of a training loss, and the router's losses in words.

#include <string>
#include <vector>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

struct LossTerm {
  std::string name;                 // as in the log: "lm", "balance", "z"
  std::string formula;              // "0.01 * sum over 4 router(s) of ..."
  std::vector<std::string> detail;  // what its symbols mean, over which tokens; may be empty
};

// Appends a term for each auxiliary loss of the routers whose coefficient is not 0.
void add_router_losses(const config::RunConfig& config, std::vector<LossTerm>& terms);

}  // namespace switchyard::models
