#include "models/layers/attend.h"

#include "core/tensor/aten.h"
#include "core/tensor/gemm.h"

namespace switchyard::models {
namespace {

// [B, KV, S, d] -> [B, H, S, d].
at::Tensor repeat_heads(const at::Tensor& x_BHSd, int64_t times) {
  if (times == 1) return x_BHSd;
  const auto sizes = x_BHSd.sizes();
  return x_BHSd.unsqueeze(2)
      .expand({sizes[0], sizes[1], times, sizes[2], sizes[3]})
      .reshape({sizes[0], sizes[1] * times, sizes[2], sizes[3]});
}

// Attention with a cap or dropout, which the fused operation does not offer.
at::Tensor attend_plainly(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const at::Tensor& mask, const ScoreOptions& options) {
  at::Tensor score = at::matmul(query * options.scale, key.transpose(-1, -2));
  if (options.cap > 0) score = at::tanh(score / options.cap) * options.cap;
  if (mask.defined()) score = score + mask;
  return at::matmul(options.dropout.drop_weights(score.softmax(-1)), value);
}

}  // namespace

at::Tensor attend(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                  const at::Tensor& mask, const ScoreOptions& options) {
  const auto type = query.scalar_type();
  const bool plain = options.cap > 0 || options.dropout.rate > 0;
  const bool narrow = type == at::kBFloat16 && (plain || !has_fast_bfloat16());
  const auto work_type = narrow ? at::kFloat : type;
  const int64_t times = query.size(1) / key.size(1);
  const at::Tensor q = query.to(work_type), k = repeat_heads(key.to(work_type), times),
                   v = repeat_heads(value.to(work_type), times);
  const at::Tensor additive = mask.defined() ? mask.to(work_type) : mask;
  if (plain) return attend_plainly(q, k, v, additive, options).to(type);
  const auto optional_mask =
      additive.defined() ? std::optional<at::Tensor>(additive) : std::nullopt;
  return at::scaled_dot_product_attention(q, k, v, optional_mask, /*dropout_p=*/0,
                                          /*is_causal=*/false, options.scale)
      .to(type);
}

}  // namespace switchyard::models
