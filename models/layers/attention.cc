#include "models/layers/attention.h"

#include <limits>

#include <ATen/record_function.h>

#include "core/tensor/aten.h"
#include "core/tensor/gemm.h"
#include "core/tensor/ops.h"
#include "models/layers/ffn.h"

namespace switchyard::models {
namespace {

// [B, KV, S, d] -> [B, H, S, d]: each key/value head serves H / KV query heads.
at::Tensor repeat_heads(const at::Tensor& x_BHSd, int64_t times) {
  if (times == 1) return x_BHSd;
  const auto sizes = x_BHSd.sizes();
  return x_BHSd.unsqueeze(2)
      .expand({sizes[0], sizes[1], times, sizes[2], sizes[3]})
      .reshape({sizes[0], sizes[1] * times, sizes[2], sizes[3]});
}

// softmax(q k^T / sqrt(d) + mask) v; key and value may have fewer heads than query.
at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                  const at::Tensor& mask) {
  const auto type = query.scalar_type();
  const auto work_type = type == at::kBFloat16 && !has_fast_bfloat16() ? at::kFloat : type;
  const int64_t times = query.size(1) / key.size(1);
  std::optional<at::Tensor> additive;
  if (mask.defined()) additive = mask.to(work_type);
  return at::scaled_dot_product_attention(query.to(work_type),
                                          repeat_heads(key.to(work_type), times),
                                          repeat_heads(value.to(work_type), times), additive)
      .to(type);
}

void append(KvCache& cache, at::Tensor& key, at::Tensor& value) {
  if (cache.length() > 0) {
    key = at::cat({cache.key_BHSd, key}, 2);
    value = at::cat({cache.value_BHSd, value}, 2);
  }
  cache = {key, value};
}

}  // namespace

at::Tensor document_mask(const at::Tensor& documents_BS, at::ScalarType type) {
  const int64_t length = documents_BS.size(1);
  const at::Tensor same = documents_BS.unsqueeze(2) == documents_BS.unsqueeze(1);
  const at::Tensor visible = same.logical_and(at::ones({length, length}, at::kBool).tril());
  return at::zeros(visible.sizes(), type)
      .masked_fill_(visible.logical_not(), -std::numeric_limits<double>::infinity())
      .unsqueeze(1);
}

void rotary_tables(const config::Attention& attention, int64_t first, int64_t length,
                   AttentionInput& input) {
  const int64_t half = attention.head_dim() / 2;
  const at::Tensor exponent = at::arange(half, at::kDouble) / static_cast<double>(half);
  const at::Tensor frequency = at::pow(attention.rope_theta(), -exponent);
  const at::Tensor angle = at::outer(at::arange(first, first + length, at::kDouble), frequency);
  input.cos_Sd = angle.cos().to(at::kFloat);
  input.sin_Sd = angle.sin().to(at::kFloat);
}

Attention::Attention(const Scope& scope, const config::Model& model)
    : num_heads_(model.attention().num_heads()),
      num_kv_heads_(model.attention().num_kv_heads()),
      head_dim_(model.attention().head_dim()),
      qkv_(scope.parameter("qkv", {(num_heads_ + 2 * num_kv_heads_) * head_dim_, model.d_model()},
                           {Init::kNormal, model.init_std()})),
      out_(scope.parameter("out", {model.d_model(), num_heads_ * head_dim_},
                           {Init::kNormal, residual_init_std(model)})) {}

at::Tensor Attention::forward(const at::Tensor& x_TD, const AttentionInput& input,
                              KvCache* cache) const {
  RECORD_USER_SCOPE("sy::attention");
  const at::Tensor qkv =
      linear(x_TD, qkv_)
          .view({input.sequences, input.length, num_heads_ + 2 * num_kv_heads_, head_dim_});
  const auto parts = qkv.split_with_sizes({num_heads_ + num_kv_heads_, num_kv_heads_}, 2);
  const at::Tensor rotated =
      rope(parts[0], input.cos_Sd, input.sin_Sd);  // queries and keys at once
  const auto qk = rotated.split_with_sizes({num_heads_, num_kv_heads_}, 2);
  const at::Tensor query = qk[0].transpose(1, 2);
  at::Tensor key = qk[1].transpose(1, 2), value = parts[1].transpose(1, 2);
  if (cache) append(*cache, key, value);

  const at::Tensor out = attend(query, key, value, input.mask_B1SS);
  return linear(out.transpose(1, 2).reshape({x_TD.size(0), num_heads_ * head_dim_}), out_);
}

}  // namespace switchyard::models
