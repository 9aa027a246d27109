#pragma once
// Routing statistics over ranks.

#include <vector>

#include "models/pass/context.h"
#include "models/pass/routing.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// **Collective.** Sums every field of every layer over the ranks; every rank gets the sums.
void reduce_stats(std::vector<RoutingStats>& layers, parallel::Communicator& ranks);

// **Collective** over `ranks`. [MoE layer][expert] slots over all ranks; a rank without tokens may
// have counted nothing.
std::vector<std::vector<int64_t>> total_load(const std::vector<RoutingStats>& layers,
                                             int64_t num_experts, parallel::Communicator& ranks);

}  // namespace switchyard::models
