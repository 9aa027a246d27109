#pragma once
// Routing of given logits, shown: who goes where, slots, weights, drops, losses. The same functions
// as in training, for learning and debugging (`switchyard inspect routing`).

#include <string>

#include "core/config/run_config.pb.h"
#include "models/moe/router/draws.h"
#include "models/moe/router/router.h"

namespace switchyard::models {

struct ReportInput {
  RouterInput router;  // logits, and what else the rule reads; its group_tokens
  RouterDraws noise;   // what is undefined or empty is drawn with the run's seed as in step 0
  AssignDraws lots;
  bool training = true;  // false: as in evaluation, without any draw
};

// Text, or JSON with the members "tokens" (a list of choices each: expert, weight, slot or why
// there is none), "load", "capacity" (null: none; where both levels have one, "group" and
// "expert"), "dropped", "rejected" and "losses" (values without their coefficients).
std::string routing_report(const config::Moe& moe, ReportInput input, uint64_t seed, bool json);

}  // namespace switchyard::models
