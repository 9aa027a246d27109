#pragma once
// The core that every kind of attention shares: scores, softmax, weighted values.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "models/layers/dropout.h"

namespace switchyard::models {

struct ScoreOptions {
  double scale = 1;
  double cap = 0;  // scores become cap * tanh(score / cap) before the mask (Grok); 0: they stay
  InnerDropout dropout = {};
};

// softmax(q k^T scale + mask) v. query [B, H, S, d], key [B, KV, S', d], value [B, KV, S', v]: each
// key/value head serves H / KV query heads, neighbours together. mask: additive, broadcast to [B,
// H, S, S'], undefined: none; it may require a gradient. Softmax in float32 or wider.
at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                  const at::Tensor& mask, const ScoreOptions& options);

}  // namespace switchyard::models
