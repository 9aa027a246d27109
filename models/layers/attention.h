#pragma once
// Causal self-attention with rotary positions and grouped key/value heads, within documents.
// Su et al. (2021), RoFormer; Ainslie et al. (2023), GQA.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::models {

// Keys and values of the positions seen so far, for generation. One per layer.
struct KvCache {
  at::Tensor key_BHSd,
      value_BHSd;  // [B, num_kv_heads, positions, head_dim]; undefined before the first use
  int64_t length() const { return key_BHSd.defined() ? key_BHSd.size(2) : 0; }
};

// What all attention layers of one forward pass share.
struct AttentionInput {
  int64_t sequences = 0, length = 0;  // B, S
  at::Tensor mask_B1SS;       // additive, compute type; undefined: every position is visible
  at::Tensor cos_Sd, sin_Sd;  // [S, head_dim/2] float, of the positions of this input
};

// 0 where a token may look, -inf elsewhere: the same document and not later. documents [B, S]
// int32.
at::Tensor document_mask(const at::Tensor& documents_BS, at::ScalarType type);

// Fills cos and sin for positions first .. first+length-1.
void rotary_tables(const config::Attention& attention, int64_t first, int64_t length,
                   AttentionInput& input);

class Attention {
 public:
  // Registers <scope>.qkv [(H + 2 KV) d, D] (queries, keys, values) and <scope>.out [D, H d].
  Attention(const Scope& scope, const config::Model& model);

  // x [B*S, D] -> [B*S, D]. cache (may be null): keys and values are appended to it and all of it
  // is attended.
  at::Tensor forward(const at::Tensor& x_TD, const AttentionInput& input, KvCache* cache) const;

 private:
  int64_t num_heads_, num_kv_heads_, head_dim_;
  Parameter& qkv_;
  Parameter& out_;
};

}  // namespace switchyard::models
