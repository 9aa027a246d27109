#pragma once
// Dropout whose draws depend on the token, not on the layout. recompute sees the same draws.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/pass/context.h"

namespace switchyard::models {

// This rank's share of rows, x [T, n], with each element 0 with probability `rate`, else divided by
// 1 - rate; x itself outside of training or at rate 0. Drawn by (seed, step, layer, global token,
// element): `layer` must differ between the uses of one model.
at::Tensor dropout(const at::Tensor& x_TN, double rate, const StepContext& context, uint32_t layer);

// Dropout inside a layer, where the step's context is not at hand: what stays is divided by 1 -
// rate. Drawn by (seed, step, layer, global token) and the place within the token.
struct InnerDropout {
  double rate = 0;  // 0: none
  DrawKey key = {};
  uint32_t layer = 0;
  TokenMap tokens = {};
  Place share = {};  // of the layer's features and heads

  // Factors for the hidden layer of a dense FFN, after its activation, [num_tokens, width] float32,
  // which are drawn by feature; undefined where nothing is dropped.
  at::Tensor hidden_factors(int64_t num_tokens, int64_t width) const;
  // Drops attention's weights after the softmax, [B, H, S, S'] of B sequences of S queries. They
  // are drawn by head and key; the token is the query's.
  at::Tensor drop_weights(const at::Tensor& weight_BHSS) const;
};
// `layer` names the one dense FFN, or the one attention, among those of the model. None outside of
// training.
InnerDropout inner_dropout(double rate, const StepContext& context, uint32_t layer);

}  // namespace switchyard::models
