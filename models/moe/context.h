#pragma once
// What a forward pass needs to know beside its input, and what it reports.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "parallel/exchange.h"

namespace switchyard::models {

// What one MoE layer saw in one micro-batch on this rank. Every field adds up over micro-batches
// and ranks.
struct RoutingStats {
  std::vector<int64_t> load;  // [E] slots asking for each expert, before any drop
  int64_t tokens = 0;
  int64_t slots = 0;  // admitted slots
  int64_t dropped = 0;
  double balance_loss = 0;    // this rank's share of the step's value, without its coefficient
  double z_loss = 0;          // the same
  double router_entropy = 0;  // sum over tokens of the probabilities' entropy, in nats

  RoutingStats& operator+=(const RoutingStats& other);
};

// The part of a MoE layer's work that must happen once: recompute in backward finds it here and
// reuses it, so routing, drops and counters are those of the first run. Empty before the first run.
struct RoutingDecision {
  at::Tensor expert_TK;   // int64
  at::Tensor load_share;  // f_i of the balance loss
  std::shared_ptr<const parallel::ExchangePlan> plan;

  bool is_made() const { return plan != nullptr; }
};

// What predictions of a table's cases came to on this rank. Adds up over micro-batches and ranks.
struct CaseStats {
  double squared_error = 0;  // sum over cases of the mean over outputs
  int64_t correct = 0;
  int64_t count = 0;

  double mean_error() const {
    return squared_error / static_cast<double>(std::max<int64_t>(1, count));
  }
  double accuracy() const {
    return static_cast<double>(correct) / static_cast<double>(std::max<int64_t>(1, count));
  }
};

struct StepContext {
  bool training = false;  // false: no jitter, no random second choice, evaluation capacity
  uint64_t seed = 0;
  int64_t step = 0;
  int64_t first_token = 0;   // global index of this rank's first token, for random streams
  int64_t group_tokens = 0;  // tokens of one routing group; divides this rank's tokens
  int64_t num_real_tokens =
      -1;  // the tokens after these are padding: not routed, not counted; -1: none is
  // Tokens over all ranks, to normalise the auxiliary losses: this rank adds its share of the mean
  // over the step.
  int64_t tokens_in_step = 0;
  int64_t tokens_in_micro_batch = 0;
  std::vector<RoutingStats>* stats = nullptr;  // one per MoE layer, added to; null: not wanted
  CaseStats* cases = nullptr;                  // of a table, added to; null: not wanted

  int64_t real_tokens(int64_t tokens) const {
    return num_real_tokens < 0 ? tokens : std::min(num_real_tokens, tokens);
  }
};

}  // namespace switchyard::models
