#pragma once
// The two-level gate: one over groups of experts, and one in each group (Shazeer et al., 2017,
// appendix B). Only the gates of the groups that a token chose are computed for it, so that A
// groups of I experts with L chosen cost A + L I dot products a token, not A I.
//
// The letters A, I, L and J are those of core/shapes.h: E = A I, K = L J. Choices come by their
// place within the group: the best expert of each chosen group, best group first, then the second
// of each.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/routing.h"

namespace switchyard::models {

// The groups that each token chooses, or that its made choices lie in, [T, L] int64, best first.
at::Tensor choose_groups(const RouterInput& input, const config::Moe& moe,
                         const RouterDraws& draws);

// The logits of the experts of each token's groups, [T, L I], differentiable: x [T, D] times the
// rows of weight [E, D] that belong to group [T, L].
at::Tensor logits_within_groups(const at::Tensor& x_TD, const at::Tensor& weight_ED,
                                const at::Tensor& group_TL, int64_t num_groups);

// Does for two levels what route_logits() does for one: the router's stages from the logits on.
Routing route_two_levels(const RouterInput& input, const config::Moe& moe,
                         const RouterDraws& draws);

// The terms of a two-level gate's load over this rank's tokens, float64, differentiable, [2 A + E]:
// per group the expected number of tokens and the number itself; per expert the expected number
// among the tokens that chose its group. `real_T1` is 1 for real tokens, else 0.
at::Tensor two_level_load_terms(const Routing& routing, const at::Tensor& real_T1);

// The load [E], expected tokens of an expert's group * expected share of them that it takes, from
// the terms summed over ranks.
at::Tensor two_level_load(const at::Tensor& terms, int64_t num_groups);

}  // namespace switchyard::models
