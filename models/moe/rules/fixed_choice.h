#pragma once
// Choices that no score has a part in, [T, K] int64: by the token's id, or by its place.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/pass/context.h"

namespace switchyard::models {

// k different experts for each token id [T], a fixed function of the id and the seed: the same in
// every layer and step. (Hash Layers, 2021: balanced over the vocabulary, not over its
// frequencies.)
at::Tensor hash_choice(const at::Tensor& token_ids_T, int64_t num_experts, int64_t k,
                       uint64_t seed);

// Round-robin or Zipf(1) choices: a known load, for benchmarks and tests.
at::Tensor forced_choice(int64_t tokens, int64_t k, int64_t num_experts, const TokenMap& map,
                         bool skewed);

}  // namespace switchyard::models
