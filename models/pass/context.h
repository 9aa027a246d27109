#pragma once
// What a forward pass needs to know beside its input, and where it reports to. It is handed down
// from the step through the model to every layer.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/base/random.h"
#include "models/pass/router_loss.h"
#include "models/pass/rows.h"
#include "parallel/named_sums.h"

namespace switchyard::parallel {
class Activity;
}

namespace switchyard::models {

struct LoadTotals;
class PooledBalance;
struct RoutingSums;
struct SlotRecord;

// Keys every random draw of a step, together with a stream, a layer and an index.
struct DrawKey {
  uint64_t seed = 0;
  int64_t step = 0;

  Random random(Stream stream, uint32_t layer = 0) const {
    return {seed, stream, static_cast<uint64_t>(step), layer};
  }
};

// Where this rank's tokens lie among those of all ranks: random draws and forced choices depend on
// a token's global index, never on the rank that holds it. Today a rank holds neighbours.
class TokenMap {
 public:
  TokenMap() = default;
  explicit TokenMap(int64_t first) : first_(first) {}

  // The global index of this rank's token number `local`.
  int64_t global(int64_t local) const { return first_ + local; }
  // The map of this rank's tokens from number `local` on.
  TokenMap from(int64_t local) const { return TokenMap(first_ + local); }
  // The map of the same rows if each has `to` tokens and not `from`.
  TokenMap with_length(int64_t from, int64_t to) const { return TokenMap(first_ / from * to); }

 private:
  int64_t first_ = 0;
};

// Real tokens over all ranks. They normalise the auxiliary losses: a rank adds its share of the
// mean over the step.
struct TokenCounts {
  int64_t in_step = 0, in_micro_batch = 0;
};

// What a step's auxiliary losses are multiplied by; 0: off.
struct LossCoefficients {
  RouterLosses routers;          // of each router
  double output_z = 0, mtp = 0;  // of the output
};
// The coefficients as the config has them.
LossCoefficients coefficients_of(const config::Model& model);

// What the routers of a pass add to; null: not wanted.
struct RoutingSinks {
  std::vector<RoutingSums>* sums = nullptr;  // one per router
  std::vector<SlotRecord>* slots = nullptr;  // one more for each router and micro-batch
  // One per router, of the step's earlier micro-batches; null: there are none.
  std::vector<LoadTotals>* load_totals = nullptr;
  // With POOLED_LAYERS in training: of this micro-batch's forward pass.
  std::shared_ptr<PooledBalance> pool;
};

struct StepContext {
  bool training = false;    // false: no random draws, evaluation capacity, no auxiliary losses
  bool generating = false;  // text is written token by token: no expert is ever full (capacity.h)
  DrawKey key;
  TokenMap tokens;
  Rows rows;                 // which of the tokens this rank holds between the parts of a layer
  int64_t group_tokens = 0;  // tokens of one routing group; divides this rank's tokens
  at::Tensor is_real_T;      // bool, false for padding, which is neither routed nor counted;
                             // undefined: there is none
  at::Tensor token_ids_T;    // int64, of this rank's tokens; read by hash routing
  TokenCounts count;
  TokenCounts source_count;  // of what an encoder reads
  // The coefficients in force in this step; unset: those of the model's config.
  std::optional<LossCoefficients> coefficients;
  // For tests and replays: the choices of each router, [T, K] int64, in place of its selection.
  const std::vector<at::Tensor>* replay = nullptr;
  RoutingSinks routing;
  // What the model reports beside its loss, added to; null: not wanted.
  parallel::NamedSums* sums = nullptr;
  // Is told which layer runs; null: nobody wants to know.
  parallel::Activity* activity = nullptr;
};

// The coefficients of a router's losses in this step.
RouterLosses router_coefficients(const config::Moe& moe, const StepContext& context);

// The same context with the ids of these tokens, [B, S] int64, which hash routing reads.
StepContext with_token_ids(StepContext context, const at::Tensor& tokens_BS);

// The map of the tokens whose rows this rank holds between the parts of a layer.
TokenMap own_tokens(const StepContext& context);

// is_real_T of `tokens` tokens of which the first `real` are no padding; undefined where all are
// real.
at::Tensor first_are_real(int64_t real, int64_t tokens);

// [T, ...] with the rows of padding set to zero.
at::Tensor without_padding(const at::Tensor& rows, const StepContext& context);

}  // namespace switchyard::models
