#pragma once
// Parameters, floating-point operations and bytes of a model, as formulas over its config: nothing
// is allocated, so that a model of any size can be looked at. Requires a config that was validated.

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"

namespace switchyard::models {

struct Component {
  std::string name;
  int64_t total;   // parameters
  int64_t active;  // of these, what one token uses: top_k of num_experts experts, all of the rest
};

struct Census {
  std::vector<Component> components;  // embedding, attention, router, experts, shared_expert,
                                      // dense_ffn, norms, output; those that the model has
  int64_t total = 0, active = 0;
};

// A tied output matrix is the embedding's and counted there. The whole embedding counts as active.
Census census(const config::Model& model);

struct FlopTerm {
  std::string name;
  double flops;
};

// Forward, per token, all layers of a kind together; a multiply-add is 2. With D d_model, H heads,
// KV key/value heads, d head_dim, S sequence_length, F widths, K top_k, E experts, V vocabulary:
//   projections 2 D d (2 H + 2 KV), scores 2 S H d (causal: half of S^2), router 2 D E,
//   experts 6 D F K, shared expert and dense FFN 6 D F, output 2 D V.
// What a router drops or pads does not change these.
std::vector<FlopTerm> forward_flops(const config::Model& model, int64_t sequence_length);

// Training, per token: 3 x forward, as backward computes two products for each of forward's.
// Recompute is not counted: these are the model's operations, not the machine's.
double flops_per_token(const config::Model& model, int64_t sequence_length);

// Bytes of one rank for parameters and what training keeps with them; activations come on top.
struct Memory {
  int64_t parameters;  // local: the experts are cut over the expert degree, the rest is whole
  int64_t value_bytes, master_bytes, gradient_bytes, moment_bytes;
  int64_t total_bytes() const { return value_bytes + master_bytes + gradient_bytes + moment_bytes; }
};

// Bytes per parameter: BF16 2 + 4 + 4 + 8 (value, float32 master, gradient, two moments), FP32
// 4 + 0 + 4 + 8, FP64 8 + 0 + 8 + 16.
Memory memory_per_rank(const config::Model& model, config::ComputeType compute, int expert_degree);

// Bytes of one rank's activations that wait for backward, one micro-batch in flight, without
// recompute: what each op saves, per token and layer, plus the vocabulary block and the attention
// mask. Experts at even load.
double activation_bytes(const config::RunConfig& config, int ranks);

}  // namespace switchyard::models
