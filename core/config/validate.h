#pragma once
// The rules that a run's config must satisfy, checked all at once and before anything is allocated.

#include <string>
#include <vector>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Every problem of a config whose defaults are filled in, one line each, beginning with the path of
// the field to change and its value: "model.moe.top_k (4) must be at most model.moe.num_experts
// (2); lower top_k or raise num_experts". num_ranks 0 leaves out the rules about ranks.
std::vector<std::string> problems(const RunConfig& config, int num_ranks);

// The two halves of problems(): fields that only the user can give, and rules that do not hold. A
// rule about a field that is unset is left out.
std::vector<std::string> missing_fields(const RunConfig& config);
std::vector<std::string> broken_rules(const RunConfig& config, int num_ranks);

// What is allowed but should be known of a valid config, one line each: routing in which later
// tokens change earlier outputs.
std::vector<std::string> warnings(const RunConfig& config);

}  // namespace switchyard::config
