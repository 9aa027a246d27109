#pragma once
// The router: a pipeline of small stages, each chosen by an enum of the config.
//
//   input perturbation -> logits -> noise -> score -> selection score -> selection -> weight
//
// All stages compute in float32 (float64 for float64 input), whatever the compute type: routing is
// decided by tiny differences, and exponentials need the range ("selective precision", Switch
// section 2.4). ROUTER_BF16 shows what becomes of routing without that.
//
// These settings are published systems:
//   1991 dense gate      top_k = num_experts, weighting RAW
//   noisy top-k (2017)   noise LEARNED_NOISE, init_std 0, importance and load losses
//   V-MoE                noise FIXED_NOISE, RAW, importance and load losses
//   GShard, ST-MoE       second_choice AT_RANDOM        Switch   top_k 1, RAW, input_jitter
//   expert choice        selection EXPERT_CHOICE, policy BY_PROBABILITY, RAW
//   2017, hierarchical   hierarchy TWO_LEVEL, num_groups, group_top_k 2, top_k 4
//   2017, appendix F     selection STRICTLY_BALANCED
//   DeepSeek-V2          num_groups, group_top_k, RAW, route_scale
//   DeepSeek-V3          score SIGMOID, selection_bias, num_groups, group_score_experts 2

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"

namespace switchyard::models {

// Runs the stages from the logits on.
Routing route_logits(RouterInput input, const config::Moe& moe, const RouterDraws& draws);

class Router {
 public:
  // Registers, each where the config needs it: <scope>.weight and <scope>.noise_weight
  // [num_experts, d_model], <scope>.group_weight and <scope>.group_noise_weight [num_groups,
  // d_model]; <scope>.threshold [num_experts]; <scope>.selection_bias [num_experts], whose gradient
  // is always zero: models/moe/rules/selection_bias.h moves it.
  Router(const Scope& scope, const config::Moe& moe, int64_t d_model, uint32_t layer);

  // This rank's share of rows, x [rows, d_model] in any compute type -> the routing of all T rows,
  // the same on every rank that sees them. `chosen` [T, K] int64 are choices to obey; undefined:
  // the router selects. **Collective** over the ranks of context.rows.
  Routing route(const at::Tensor& x_TD, const StepContext& context, const at::Tensor& chosen) const;

 private:
  config::Moe moe_;
  uint32_t layer_;  // keys this layer's random streams
  Parameter* weight_ = nullptr;
  Parameter* noise_weight_ = nullptr;
  Parameter* group_weight_ = nullptr;
  Parameter* group_noise_weight_ = nullptr;
  Parameter* selection_bias_ = nullptr;
  Parameter* threshold_ = nullptr;
};

}  // namespace switchyard::models
