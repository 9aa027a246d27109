#pragma once
// What a forward pass needs to know beside its input, and what it reports.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/exchange.h"
#include "parallel/named_sums.h"

namespace switchyard::models {

// What one router saw in one micro-batch on this rank. Every field adds up over micro-batches
// and ranks.
struct RoutingStats {
  // [E] slots asking for each expert, before any drop; NEXT_FREE: of the first top_k rounds
  std::vector<int64_t> load;
  int64_t tokens = 0;
  int64_t slots = 0;     // that asked for a place
  int64_t rejected = 0;  // later choices that the second-choice policy did not let ask
  int64_t dropped = 0;   // that asked and found none
  // This rank's share of the step's values, without their coefficients.
  double balance_loss = 0;
  double z_loss = 0;
  double device_loss = 0;
  double communication_loss = 0;
  double importance_loss = 0;
  double load_loss = 0;
  double threshold_loss = 0;
  double router_entropy = 0;  // sum over tokens of the probabilities' entropy, in nats

  RoutingStats& operator+=(const RoutingStats& other);
};

// The counts behind the load fractions of GLOBAL_BATCH at one router, over all ranks and the step's
// micro-batches so far: [1, N] float64, constant, undefined before the first micro-batch.
struct LoadTotals {
  at::Tensor expert, second, device, communication;  // the last of the N is the number of tokens
  at::Tensor within, entering;                       // models/moe/rules/balance_within.h
};

// Derivatives of the balance losses in the probabilities (models/moe/losses/balance.h); undefined:
// off.
struct BalanceSlopes {
  at::Tensor expert_GE, second_GE, device_GE, communication_GE;
  at::Tensor within_GE;  // models/moe/rules/balance_within.h
};

class PooledBalance;

// The part of a MoE layer's work that must happen once: recompute in backward finds it here and
// reuses it, so routing, drops and counters are those of the first run. Empty before the first run.
struct RoutingDecision {
  at::Tensor expert_TK;       // int64
  at::Tensor token_scale_T1;  // EXPERT_CHOICE over tokens: 1 / experts that chose the token
  at::Tensor kept_TK;         // RENORMALIZE_KEPT: 1 for the slots that have a place, else 0
  at::Tensor enters_T1;       // two levels: 1 for the tokens in the balance loss within groups
  BalanceSlopes balance;
  at::Tensor importance_E, load_terms;  // totals over ranks; undefined where the loss is off
  std::shared_ptr<const parallel::ExchangePlan> plan;
  std::vector<RoutingDecision> projections;  // of switch_projections: queries, keys, values

  bool is_made() const { return plan != nullptr; }
};

// What a step's auxiliary losses are multiplied by; 0: off.
struct LossCoefficients {
  // Of each router.
  struct Routers {
    double balance = 0, device = 0, communication = 0, z = 0, importance = 0, load = 0;
  };
  Routers routers;
  double output_z = 0, mtp = 0;  // of the output
};

struct StepContext {
  bool training = false;    // false: no random draws, evaluation capacity, no auxiliary losses
  bool generating = false;  // text is written token by token: no expert is ever full (capacity.h)
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t first_token = 0;   // global index of this rank's first token, for random streams
  int64_t group_tokens = 0;  // tokens of one routing group; divides this rank's tokens
  int64_t num_real_tokens =
      -1;                // the tokens after these are padding: not routed, not counted; -1: none is
  at::Tensor is_real_T;  // bool: padding in other places; undefined: see num_real_tokens
  at::Tensor token_ids_T;  // int64, of this rank's tokens; read by hash routing
  // Of this micro-batch's forward pass, with POOLED_LAYERS in training; else null.
  std::shared_ptr<PooledBalance> pool;
  // For tests and replays: the choices of each router, [T, K] int64, in place of its selection.
  const std::vector<at::Tensor>* replay = nullptr;
  // Real tokens over all ranks, to normalise the auxiliary losses: this rank adds its share of the
  // mean over the step.
  int64_t tokens_in_step = 0;
  int64_t tokens_in_micro_batch = 0;
  // The same of an encoder's source.
  int64_t source_tokens_in_step = 0;
  int64_t source_tokens_in_micro_batch = 0;
  // Where they change from step to step; else those of the model's config (coefficients.h).
  std::optional<LossCoefficients> coefficients;
  std::vector<RoutingStats>* stats = nullptr;  // one per router, added to; null: not wanted
  // Of the step's earlier micro-batches, one per router, added to; null: there are none.
  std::vector<LoadTotals>* load_totals = nullptr;
  // What the model reports beside its loss, added to; null: not wanted.
  parallel::NamedSums* sums = nullptr;
};

// The context of these tokens, [B, S] int64, whose ids hash routing reads.
StepContext with_token_ids(StepContext context, const at::Tensor& tokens_BS);

// 1 for each of `tokens` tokens that is real, 0 for padding; empty: all are real.
std::vector<uint8_t> real_tokens(const StepContext& context, int64_t tokens);

}  // namespace switchyard::models
