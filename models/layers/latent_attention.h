#pragma once
// Multi-head latent attention: keys and values of all heads come from one narrow latent per token,
// which is all that generation has to keep; one rotated key is shared by the heads. DeepSeek-V2
// (2024), section 2.1.

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layers/attention.h"
#include "models/layers/dense.h"
#include "models/layers/norm.h"

namespace switchyard::models {

class LatentAttention {
 public:
  // With r = kv_rank, n = nope_dim, p = rope_dim, v = value_dim, registers <scope>.kv_down [r + p,
  // D] (latent, then rotated key), kv_norm [r], kv_up [H (n + v), r] (per head: key, then value),
  // out [D, H v], and for queries q [H (n + p), D] or, with q_rank, q_down [q_rank, D], q_norm,
  // q_up [H (n + p), q_rank].
  LatentAttention(const Scope& scope, const config::Model& model);

  // Takes and returns what Attention::forward() does.
  at::Tensor forward(const at::Tensor& x_TD, const AttentionInput& input, KvCache* cache,
                     const InnerDropout& dropout = {}) const;

 private:
  at::Tensor queries(const at::Tensor& x_TD, const AttentionInput& input) const;

  config::Latent sizes_;
  int64_t num_heads_;
  double scale_;
  Dense q_, kv_down_;
  Norm kv_norm_;
  Dense kv_up_, out_;
  std::optional<Dense> q_down_;  // none: queries straight from x
  std::optional<Norm> q_norm_;
};

}  // namespace switchyard::models
