#pragma once
// The router: a pipeline of small stages, each chosen by an enum of the config.
//
//   input perturbation -> logits -> score -> selection -> weight
//
// All in float32 (float64 for float64 input), whatever the compute type: routing is decided by tiny
// differences, and exponentials need the range ("selective precision", Switch section 2.4).

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/moe/context.h"

namespace switchyard::models {

struct Routing {
  at::Tensor logits_TE;       // float32, differentiable
  at::Tensor probability_TE;  // float32, differentiable: the scores, normalised to sum 1 per token
  at::Tensor expert_TK;       // int64, constant: choices in order of preference
  at::Tensor weight_TK;       // float32, differentiable: what each choice's output is multiplied by
};

// Ids of the k largest scores per row, largest first; ties go to the lowest id. score [T, E] -> [T,
// k] int64.
at::Tensor top_k_lowest_id(const at::Tensor& score_TE, int64_t k);

// Weights of the chosen experts from their scores [T, K], before any drop.
at::Tensor choice_weights(const at::Tensor& chosen_score_TK, const config::Router& router);

class Router {
 public:
  // Registers <scope>.weight [num_experts, d_model].
  Router(const Scope& scope, const config::Moe& moe, int64_t d_model, uint32_t layer,
         double init_std);

  // x [T, d_model] in any compute type. `chosen` undefined: select; else the ids to use again, [T,
  // K].
  Routing route(const at::Tensor& x_TD, const StepContext& context, const at::Tensor& chosen) const;

 private:
  at::Tensor jitter(const at::Tensor& x_TD, const StepContext& context) const;
  at::Tensor select(const at::Tensor& score_TE, const StepContext& context) const;

  config::Router options_;
  int64_t num_experts_, top_k_;
  uint32_t layer_;  // keys this layer's random streams
  Parameter& weight_;
};

}  // namespace switchyard::models
