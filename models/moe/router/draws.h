#pragma once
// The router's random draws. Each is a function of (seed, stream, step, layer, global token), so
// that neither the layout of ranks nor recompute changes it.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"

namespace switchyard::models {

// Draws what the config's stages use in training, but for normal_TE of a two-level gate, which
// draw_within_groups() has; nothing in evaluation. `type` is the router's, float32 or float64.
RouterDraws draw_for_router(const config::Moe& moe, int64_t tokens, const StepContext& context,
                            uint32_t layer, at::ScalarType type);

// The noise of a two-level gate on the experts of each token's groups [T, L] alone, [T, L I]: the
// draws that those experts would have among all. Undefined where there is no noise.
at::Tensor draw_within_groups(const config::Moe& moe, const at::Tensor& group_TL,
                              const StepContext& context, uint32_t layer, at::ScalarType type);

// What admission and assignment use; each undefined unless the config's policy draws, in training.
struct AssignDraws {
  at::Tensor uniform_TN;  // [T, k-1] float32, for each choice after the first: AT_RANDOM
  at::Tensor lot_TK;      // float32: AT_RANDOM_ORDER
  at::Tensor exempt_T1;   // bool, the same for all tokens of a sequence: DEVICE_BUDGET
};
AssignDraws draw_for_assignment(const config::Moe& moe, int64_t tokens, const StepContext& context,
                                uint32_t layer);

// The router's input in training: times U(1 - eps, 1 + eps) per element (Switch's code; its paper
// perturbs the logits), or with dropout. Unchanged in evaluation.
at::Tensor perturb_input(const at::Tensor& x_TD, const config::Router& router,
                         const StepContext& context, uint32_t layer);

}  // namespace switchyard::models
