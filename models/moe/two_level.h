#pragma once
// The two-level gate: one over groups of experts, and one in each group (Shazeer et al., 2017,
// appendix B). All of it in terms of the E experts, so that assignment, exchange and losses need
// not know: every token gets the logits of all E, where the paper computes those of the chosen
// groups alone. At many thousands of experts the gate then costs more than the experts.
//
// Of Mesh-TensorFlow's later form TWO_LEVEL_BY_IMPORTANCE has the rule of importance (admission.h)
// and not the rest: there each level has a capacity of its own, here the experts' is the only one;
// there the gates within groups count only rows of importance 1.0 in their balance loss, here all
// tokens enter the one balance loss over the E experts.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/moe/router.h"

namespace switchyard::models {

// The router's stages from the logits on, as route_logits: choices are the experts of the best
// group, best first, then those of the next.
Routing route_two_levels(const RouterInput& input, const config::Moe& moe,
                         const RouterDraws& draws);

// What the load of a two-level gate is made of, of this rank's tokens, float64, differentiable,
// [2 A + E]: per group the expected number of tokens and the number itself; per expert the expected
// number among the tokens that chose its group. `real_T1` 1 for real tokens, else 0.
at::Tensor two_level_load_terms(const Routing& routing, const at::Tensor& real_T1);

// [E]: expected tokens of the group * expected share of them that the expert takes. `terms` summed
// over ranks.
at::Tensor two_level_load(const at::Tensor& terms, int64_t num_groups);

}  // namespace switchyard::models
