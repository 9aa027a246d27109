#pragma once
// The router's losses in words.

#include <vector>

#include "core/config/run_config.pb.h"
#include "models/inspect/describe.h"

namespace switchyard::models {

// Appends a term for each auxiliary loss of the routers whose coefficient is not 0.
void add_router_losses(const config::RunConfig& config, std::vector<LossTerm>& terms);

}  // namespace switchyard::models
