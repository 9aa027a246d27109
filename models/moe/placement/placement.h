#pragma once
// From a routing to places: which slots ask, which find room, and what that says about the router's
// health. Above assignment.h, which knows no config.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/moe/placement/assignment.h"
#include "models/moe/router/draws.h"
#include "models/moe/router/router.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"

namespace switchyard::models {

struct Placement {
  std::vector<uint8_t> admitted;  // [T*K], 1: asks for a place; empty: all do
  Assignment assignment;
  // Two levels, [T, 1]: 1 for the tokens that enter the balance loss within their best group.
  at::Tensor enters_T1 = {};
};

// Padding and what the second-choice policy rejects do not ask; the rest is the drop policy's. With
// TWO_LEVEL_BY_IMPORTANCE a token first asks its groups for a row, first choices first; a slot
// whose group has none for the token is dropped, and the others ask within the group.
Placement place_slots(const Routing& routing, const config::Moe& moe, const StepContext& context,
                      const AssignDraws& draws);

// What each token's weights are multiplied by after assignment, [T, 1]; undefined: nothing. With
// SOFTMAX_OVER_TOKENS one over the number of experts that chose the token.
at::Tensor token_scale(const Placement& placement, const config::Moe& moe, at::ScalarType type);

// [T, K]: 1 for the slots that have a place, else 0. Defined with RENORMALIZE_KEPT, which needs it.
at::Tensor kept_slots(const Placement& placement, const config::Moe& moe, at::ScalarType type);

// The weights of the slots after assignment: token_scale and RENORMALIZE_KEPT applied. A token
// without a place has weights 0.
at::Tensor weights_after_drops(const at::Tensor& weight_TK, const at::Tensor& token_scale_T1,
                               const at::Tensor& kept_TK, const config::Router& router);

// Without the losses. Where experts choose, the load is what the experts took, and dropped counts
// the tokens that none did.
RoutingStats stats_of(const Routing& routing, const Placement& placement, const config::Moe& moe,
                      const StepContext& context);

}  // namespace switchyard::models
