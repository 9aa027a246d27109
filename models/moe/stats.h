#pragma once
// Routing statistics over ranks.

#include <vector>

#include "models/moe/context.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// **Collective.** Sums every field of every layer over the ranks; every rank gets the sums.
void reduce_stats(std::vector<RoutingStats>& layers, parallel::Communicator& ranks);

}  // namespace switchyard::models
