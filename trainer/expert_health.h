#pragma once
// Which experts get tokens, and what to do about those that get none any more.

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "models/pass/stats.h"
#include "trainer/model_instance.h"

namespace switchyard::trainer {

// [router][expert]: the step of its last token, counted from 1. Each rank notes what it sees itself
// until agree_on_activity().
using ExpertActivity = std::vector<std::vector<int64_t>>;

// Notes which experts had tokens. stats: what this rank's routers counted in step number `step`,
// one per router.
void track_experts(const std::vector<models::RoutingStats>& stats, int64_t step,
                   ExpertActivity& activity);

// **Collective.** Sets each expert's step to the latest that any of `ranks` has noted.
void agree_on_activity(ExpertActivity& activity, parallel::Communicator& ranks);

// A router's experts that had no token in the last `patience` steps.
std::vector<int64_t> dead_experts(const std::vector<int64_t>& last_active, int64_t step,
                                  int64_t patience);

// **Collective** over the mesh with a moe.dead_expert_action other than LEAVE; else does nothing.
// Revives the experts without a token for log.dead_after_steps steps and counts them as active from
// here on. Returns a line of text for each. stats and step: as in track_experts().
std::vector<std::string> revive_experts(const config::RunConfig& config, ModelInstance& instance,
                                        const std::vector<models::RoutingStats>& stats,
                                        int64_t step, ExpertActivity& activity);

}  // namespace switchyard::trainer
