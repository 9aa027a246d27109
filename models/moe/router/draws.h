#pragma once
// The router's random draws. Each is a function of (seed, stream, step, layer, global token), so
// that neither the layout of ranks nor recompute changes it.

#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"

namespace switchyard::models {

// What the random stages of one forward pass use. Undefined: the stage does nothing, as always in
// evaluation.
struct RouterDraws {
  at::Tensor normal_TE;             // standard normal: LEARNED_NOISE, FIXED_NOISE
  at::Tensor gumbel_TE;             // standard Gumbel: SAMPLED, SAMPLED_SECOND
  at::Tensor group_normal_TA = {};  // standard normal: LEARNED_NOISE of a two-level gate
};

// In training, what the config's stages need, but for normal_TE of a two-level gate; else nothing.
// `type`: of the router, float32 or float64.
RouterDraws draw_for_router(const config::Moe& moe, int64_t tokens, const StepContext& context,
                            uint32_t layer, at::ScalarType type);

// The noise of a two-level gate on the experts of each token's groups [T, G] alone, [T, G I]: the
// draws that those experts would have among all. Undefined where there is no noise.
at::Tensor draw_within_groups(const config::Moe& moe, const at::Tensor& group_TG,
                              const StepContext& context, uint32_t layer, at::ScalarType type);

// What admission and assignment use; each empty unless the config's policy draws, in training.
struct AssignDraws {
  std::vector<float> uniform;   // [T * (k-1)] for each choice after the first: AT_RANDOM
  std::vector<float> lot;       // [T * K]: AT_RANDOM_ORDER
  std::vector<uint8_t> exempt;  // [T], the same for all tokens of a sequence: DEVICE_BUDGET
};
AssignDraws draw_for_assignment(const config::Moe& moe, int64_t tokens, const StepContext& context,
                                uint32_t layer);

// The router's input in training: times U(1 - eps, 1 + eps) per element (Switch's code; its paper
// perturbs the logits), or with dropout. Unchanged in evaluation.
at::Tensor perturb_input(const at::Tensor& x_TD, const config::Router& router,
                         const StepContext& context, uint32_t layer);

}  // namespace switchyard::models
