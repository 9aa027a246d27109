#pragma once
// What a router is given and what it decides, as it travels through a forward pass.

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/pass/context.h"
#include "parallel/exchange.h"

namespace switchyard::models {

// What a two-level gate knows of groups (models/moe/rules/two_level.h).
struct GroupRouting {
  at::Tensor group_TL = {};         // int64, constant: the chosen groups, best first
  at::Tensor share_TL = {};         // constant: of the token's weights
  at::Tensor probability_TLI = {};  // differentiable: of the experts of each chosen group
  at::Tensor chance_TA = {}, chance_TLI = {};  // as Routing::chance_TE, each within its gate
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
  // Two levels, [T, L] int64: the chosen groups; then the logits, noise logits and normal draws of
  // experts are those of these groups alone, [T, L I]. Undefined: choose, from those of all
  // experts.
  at::Tensor group_TL;
  at::Tensor threshold_E;  // STRICTLY_BALANCED
  at::Tensor bias_E;       // added for the selection alone; undefined: none
  at::Tensor chosen_TK;    // made choices to obey; undefined: select
  StepContext context;     // group_tokens, padding, token ids, places of tokens, seed
};

// What the random stages of one forward pass use. Undefined: the stage does nothing, as always in
// evaluation.
struct RouterDraws {
  at::Tensor normal_TE;             // standard normal: LEARNED_NOISE, FIXED_NOISE
  at::Tensor gumbel_TE;             // standard Gumbel: SAMPLED, SAMPLED_SECOND
  at::Tensor group_normal_TA = {};  // standard normal: LEARNED_NOISE of a two-level gate
};

// The counts behind the load fractions of GLOBAL_BATCH at one router, over all ranks and the step's
// micro-batches so far: [1, N] float64, constant, undefined before the first micro-batch.
struct LoadTotals {
  at::Tensor expert, second, device, communication;  // the last of the N is the number of tokens
  at::Tensor within, entering;                       // of a two-level gate
};

// Derivatives of the balance losses in the probabilities (models/moe/losses/balance.h); undefined:
// off.
struct BalanceSlopes {
  at::Tensor expert_GE, second_GE, device_GE, communication_GE;
  at::Tensor within_GE;  // of a two-level gate
};

// The part of a MoE layer's work that must happen once: recompute in backward finds it here and
// reuses it, so routing, drops and counters are those of the first run. Empty before the first run.
struct RoutingDecision {
  at::Tensor expert_TK;  // int64
  at::Tensor kept_TK;    // where weights depend on it: 1 for the slots that have a place, else 0
  at::Tensor enters_T1;  // two levels: 1 for the tokens in the balance loss within groups
  BalanceSlopes balance;
  at::Tensor importance_E, load_terms;  // totals over ranks; undefined where the loss is off
  std::shared_ptr<const parallel::ExchangePlan> plan;
  std::vector<RoutingDecision> projections;  // of switch_projections: queries, keys, values

  bool is_made() const { return plan != nullptr; }
};

// What one router decided about this rank's tokens of a micro-batch, for comparisons of runs.
struct SlotRecord {
  int64_t router = 0;       // counted as for the statistics
  int64_t first_token = 0;  // global index of the first row
  at::Tensor expert_TK;     // int64
  at::Tensor is_kept_TK;    // bool: whether the slot has a place
};

}  // namespace switchyard::models
