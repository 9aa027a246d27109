#pragma once
// Balance without a loss: the router's selection bias, moved once per step (DeepSeek-V3, section
// 2.1.2; Wang et al. 2024).

#include <vector>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/pass/stats.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// **Collective** over `ranks`, unless the config has no selection bias; then it does nothing. For
// each MoE layer  bias_i += rate * sign(mean load - load_i),  with the slots of the whole step:
// `stats` are this rank's, summed over its micro-batches, one per MoE layer in the table's order.
// Every rank gets the same bits. Call it once per step, after backward.
void update_selection_bias(ParameterTable& table, const config::Moe& moe,
                           const std::vector<RoutingStats>& stats, parallel::Communicator& ranks);

}  // namespace switchyard::models
