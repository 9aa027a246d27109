#pragma once
// What the routers of a forward pass decide and count.

#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/exchange.h"

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
  at::Tensor within, entering;                       // of a two-level gate (balance_within.h)
};

// Derivatives of the balance losses in the probabilities (models/moe/losses/balance.h); undefined:
// off.
struct BalanceSlopes {
  at::Tensor expert_GE, second_GE, device_GE, communication_GE;
  at::Tensor within_GE;  // of a two-level gate (balance_within.h)
};

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

}  // namespace switchyard::models
