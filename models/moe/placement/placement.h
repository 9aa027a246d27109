#pragma once
// From a routing to places: which slots ask, which find room, and what that says about the router's
// health. Above assignment.h, which knows no config.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/moe/placement/assignment.h"
#include "models/moe/router/draws.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"
#include "models/pass/stats.h"

namespace switchyard::models {

struct Placement {
  at::Tensor admitted_TK;  // bool, whether a slot asks for a place; undefined: all do
  Assignment assignment;
  // Two levels, [T, 1]: 1 for the tokens that enter the balance loss within their best group.
  at::Tensor enters_T1 = {};
};

// Padding and what the second-choice policy rejects do not ask; the rest is the drop policy's. With
// TWO_LEVEL_BY_IMPORTANCE a token first asks its groups for a row, first choices first; a slot
// whose group has none for the token is dropped, and the others ask within the group.
Placement place_slots(const Routing& routing, const config::Moe& moe, const StepContext& context,
                      const AssignDraws& draws);

// [T, K] of `type`: 1 for the slots that have a place, else 0. Undefined where no weight depends on
// it: with neither RENORMALIZE_KEPT nor SOFTMAX_OVER_TOKENS.
at::Tensor kept_slots(const Placement& placement, const config::Moe& moe, at::ScalarType type);

// The weights of the slots after assignment, [T, K]: those of RENORMALIZE_KEPT normalised over the
// kept slots, those of SOFTMAX_OVER_TOKENS divided by the number of experts that chose the token. A
// token without a place has weights 0, or its slots are not read.
at::Tensor weights_after_drops(const at::Tensor& weight_TK, const at::Tensor& kept_TK,
                               const config::Router& router);

// What this routing adds to the router's sums, but for its losses. Where experts choose, the load
// is what the experts took, and dropped counts the tokens that none did.
RoutingSums sums_of(const Routing& routing, const Placement& placement, const config::Moe& moe,
                    const StepContext& context);

}  // namespace switchyard::models
