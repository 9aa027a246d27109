#pragma once
// The router: a pipeline of small stages, each chosen by an enum of the config.
//
//   input perturbation -> logits -> noise -> score -> selection score -> selection -> weight
//
// All in float32 (float64 for float64 input), whatever the compute type: routing is decided by tiny
// differences, and exponentials need the range ("selective precision", Switch section 2.4).
// ROUTER_BF16 shows what becomes of routing without that.
//
// Published systems as settings:
//   1991 dense gate      top_k = num_experts, weighting RAW
//   noisy top-k (2017)   noise LEARNED_NOISE, init_std 0, importance and load losses
//   V-MoE                noise FIXED_NOISE, RAW, importance and load losses
//   GShard, ST-MoE       second_choice AT_RANDOM        Switch   top_k 1, RAW, input_jitter
//   expert choice        selection EXPERT_CHOICE, policy BY_PROBABILITY, RAW
//   2017, hierarchical   hierarchy TWO_LEVEL, num_groups, group_top_k 2, top_k 4
//   2017, appendix F     selection STRICTLY_BALANCED
//   DeepSeek-V2          num_groups, group_top_k, RAW, route_scale
//   DeepSeek-V3          score SIGMOID, selection_bias, num_groups, group_score_experts 2

#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/moe/router/draws.h"
#include "models/pass/context.h"

namespace switchyard::models {

// What a two-level gate knows of groups (models/moe/rules/two_level.h has the dimensions).
struct GroupRouting {
  at::Tensor group_TG = {};         // int64, constant: the chosen groups, best first
  at::Tensor share_TG = {};         // constant: of the token's weights
  at::Tensor probability_TGI = {};  // differentiable: of the experts of each chosen group
  at::Tensor chance_TA = {}, chance_TGI = {};  // as Routing::chance_TE, each within its gate
};

struct Routing {
  // With two levels the first two are of the gate over groups, [T, A].
  at::Tensor logits_TE;       // float32, differentiable; without noise
  at::Tensor probability_TE;  // float32, differentiable: the scores, normalised to sum 1 per token
  at::Tensor expert_TK;       // int64, constant: choices in order of preference
  at::Tensor weight_TK;       // float32, differentiable: what each choice's output is multiplied by
  // Differentiable: the probability that an expert is chosen when its noise is drawn again and the
  // others' is kept (2017, appendix A). Undefined without noise or when every expert is chosen.
  at::Tensor chance_TE;
  at::Tensor score_TK = {};     // constant: scores of the choices, which drop policies rank
  at::Tensor threshold_E = {};  // STRICTLY_BALANCED: differentiable, of the scores
  GroupRouting groups = {};     // of a two-level gate
};

struct RouterInput {
  at::Tensor logits_TE;
  at::Tensor noise_logits_TE;  // x W_noise; read when there are draws of noise
  at::Tensor group_logits_TA, group_noise_logits_TA;  // two levels: of the gate over groups
  // Two levels, [T, G] int64: the chosen groups; then the logits, noise logits and normal draws of
  // experts are those of these groups alone, [T, G I]. Undefined: choose, from those of all
  // experts.
  at::Tensor group_TG;
  at::Tensor threshold_E;  // STRICTLY_BALANCED
  at::Tensor bias_E;       // added for the selection alone; undefined: none
  at::Tensor token_ids_T;  // HASH
  at::Tensor chosen_TK;    // made choices to obey; undefined: select
  TokenMap tokens = {};    // where the rows lie among all tokens
  uint64_t seed = 0;
  int64_t group_tokens = 0;   // of one routing group: SOFTMAX_OVER_TOKENS, SINKHORN, assignment
  std::vector<uint8_t> real;  // padding, as from real_tokens(); empty: none
  bool training = false;      // SINKHORN, BALANCED_ASSIGNMENT
};

// The stages from the logits on.
Routing route_logits(RouterInput input, const config::Moe& moe, const RouterDraws& draws);

// What RENORMALIZE and RENORMALIZE_KEPT divide the scores of the chosen [..., K] by, [..., 1]:
// their weight_norm-norm; above 0 whatever underflows.
at::Tensor norm_of_choices(const at::Tensor& chosen_score, const config::Router& router);

// The scores of the chosen, [..., K], divided by their norm over the last axis as the weighting
// says.
at::Tensor normalize_choices(const at::Tensor& chosen_score, const config::Router& router);

// Weights of the chosen experts from their scores [T, K], before any drop.
at::Tensor choice_weights(const at::Tensor& chosen_score_TK, const config::Router& router);

class Router {
 public:
  // Registers, each where the config needs it: <scope>.weight and <scope>.noise_weight
  // [num_experts, d_model], <scope>.group_weight and <scope>.group_noise_weight [num_groups,
  // d_model]; <scope>.threshold [num_experts]; <scope>.selection_bias [num_experts], whose gradient
  // is always zero: models/moe/router/selection_bias.h moves it.
  Router(const Scope& scope, const config::Moe& moe, int64_t d_model, uint32_t layer);

  // x [T, d_model] in any compute type. `chosen` undefined: select; else the ids to use again, [T,
  // K].
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
