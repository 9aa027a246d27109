#pragma once
// Causal self-attention with grouped key/value heads, within documents, and the options by which
// the families differ. Ainslie et al. (2023), GQA. See latent_attention.h for DeepSeek's.

#include <cstdint>
#include <optional>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layers/attend.h"
#include "models/layers/dense.h"
#include "models/layers/norm.h"
#include "models/layers/position.h"
#include "models/pass/rows.h"

namespace switchyard::models {

// Keys and values of the positions seen so far, for generation. One per layer.
struct KvCache {
  // [B, num_kv_heads, positions, head_dim]; latent attention keeps its rotated key and its latent
  // with one head instead. Undefined before the first use.
  at::Tensor key_BHSd, value_BHSd;
  int64_t length() const { return key_BHSd.defined() ? key_BHSd.size(2) : 0; }

  // Adds the new positions and replaces both by all positions.
  void append(at::Tensor& key, at::Tensor& value);
};

// What all attention layers of one forward pass share.
struct AttentionInput {
  int64_t sequences = 0, length = 0;  // B, S
  at::Tensor mask_B1SS;  // additive, compute type; undefined: every position is visible
  RotaryTables rotary;   // of the positions of this input; undefined without RoPE
  at::Tensor bucket_SS;  // [S, S'] int64, see relative_buckets(); undefined without relative bias
  Rows rows;             // of all ranks over which the heads are dealt
};

// The bias of every head and distance, [num_buckets, num_heads]. Registers <scope>.relative_bias.
Parameter& register_relative_bias(const Scope& scope, const config::Model& model);
// That bias between the positions of the input plus its mask, [1 or B, H, S, S']; differentiable in
// the table.
at::Tensor position_bias(const AttentionInput& input, Parameter& table);

// The heads of this rank: they are dealt over the tensor ranks. Of key/value heads that are fewer
// than ranks it is one, which its neighbours have too.
int64_t heads_here(const Scope& scope, int64_t heads);
int64_t kv_heads_here(const Scope& scope, int64_t heads);

// Keys and, beside them, values of this rank's heads, [T, 2 KV d], from the columns that its
// matrix makes. Those are the same, but where there are fewer heads than ranks: then each rank
// holds a part of a head's rows of the matrix, and gathers what its neighbours make with theirs,
// **collective** over the ranks of `rows`.
at::Tensor whole_heads(const at::Tensor& key_value_TE, int64_t head_dim, const Rows& rows);

// Each tensor rank returns one summand of the output; the caller adds them up (Rows::sum).
class Attention {
 public:
  // Registers <scope>.qkv [(H + 2 KV) d, D] (queries, keys, values; not if they are `projected`
  // elsewhere), <scope>.out [D, H d], and as the config asks: <scope>.qkv_bias; <scope>.q_norm and
  // <scope>.k_norm; <scope>.relative_bias unless `shared_bias` is given.
  Attention(const Scope& scope, const config::Model& model, Parameter* shared_bias,
            bool projected = false);

  // x [B*S, D] -> this rank's terms [B*S, D]. cache (may be null): keys and values are appended to
  // it and all of it is attended.
  at::Tensor forward(const at::Tensor& x_TD, const AttentionInput& input, KvCache* cache,
                     const InnerDropout& dropout = {}) const;

  // forward() from given queries, keys and values, [B*S, (H + 2 KV) d or a part of a head's]: what
  // this rank's rows of the matrix would make.
  at::Tensor forward_projected(const at::Tensor& qkv_TD, const AttentionInput& input,
                               KvCache* cache, const InnerDropout& dropout = {}) const;

 private:
  // Queries, keys and values with bias, norm and clip where the config asks; then of whole heads.
  at::Tensor refine(at::Tensor qkv, const Rows& rows) const;
  // Queries and keys [B, S, H + KV, d], normed by head and rotated where the config asks.
  at::Tensor place(const at::Tensor& qk_BSHd, const AttentionInput& input) const;

  config::Attention options_;
  int64_t num_heads_, num_kv_heads_;  // of this rank
  int64_t head_dim_;
  std::optional<Dense> qkv_;  // none: they come from elsewhere
  Dense out_;
  Parameter* qkv_bias_ = nullptr;
  Parameter* relative_bias_ = nullptr;
  std::optional<Norm> q_norm_, k_norm_;
};

}  // namespace switchyard::models
