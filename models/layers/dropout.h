#pragma once
// Dropout whose draws depend on the token, not on the layout. recompute sees the same draws.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/moe/context.h"

namespace switchyard::models {

// x [T, n] with each element 0 with probability `rate`, else divided by 1 - rate; x itself outside
// of training or at rate 0. Drawn by (seed, step, layer, global token, element): `layer` must
// differ between the uses of one model.
at::Tensor dropout(const at::Tensor& x_TN, double rate, const StepContext& context, uint32_t layer);

// Dropout on the hidden layer of a dense FFN, after the activation: what stays is divided by 1 -
// rate. Drawn by (seed, step, layer, global token, feature).
struct HiddenDropout {
  double rate = 0;  // 0: none
  uint64_t seed = 0;
  int64_t step = 0;
  uint32_t layer = 0;
  int64_t first_token = 0;

  // Factors of the hidden layer [tokens, width], float32; undefined where nothing is dropped.
  at::Tensor factors(int64_t tokens, int64_t width) const;
};
// Of the one dense FFN of a layer; none outside of training.
HiddenDropout hidden_dropout(double rate, const StepContext& context, uint32_t layer);

// Dropout of attention's weights, after the softmax: those that stay are divided by 1 - rate. Drawn
// by (seed, step, layer, global token of the query, head, key).
struct AttentionDropout {
  double rate = 0;  // 0: none
  uint64_t seed = 0;
  int64_t step = 0;
  uint32_t layer = 0;
  int64_t first_token = 0;

  // weight [B, H, S, S'] of B sequences of S queries.
  at::Tensor apply(const at::Tensor& weight_BHSS) const;
};
// Of one attention, which `layer` names among those of the model; none outside of training.
AttentionDropout attention_dropout(double rate, const StepContext& context, uint32_t layer);

}  // namespace switchyard::models
