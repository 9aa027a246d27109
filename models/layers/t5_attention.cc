#include "models/layers/t5_attention.h"

#include <cmath>

#include <ATen/record_function.h>

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "models/layers/ffn.h"

namespace switchyard::models {

T5Attention::T5Attention(const Scope& scope, const config::Model& model)
    : num_heads_(model.attention().num_heads()),
      head_dim_(model.attention().head_dim()),
      query_(scope.parameter(
          "query", {num_heads_ * head_dim_, model.d_model()},
          {Init::kNormal, model.init_std() / std::sqrt(static_cast<double>(head_dim_))})),
      key_value_(scope.parameter("key_value", {2 * num_heads_ * head_dim_, model.d_model()},
                                 {Init::kNormal, model.init_std()})),
      out_(scope.parameter("out", {model.d_model(), num_heads_ * head_dim_},
                           {Init::kNormal, residual_init_std(model)})) {}

// [B*S, H d] -> [B, H, S, d].
at::Tensor T5Attention::heads(const at::Tensor& flat, int64_t sequences) const {
  return flat.view({sequences, -1, num_heads_, head_dim_}).transpose(1, 2);
}

void T5Attention::extend(const at::Tensor& memory_TD, int64_t sequences, KvCache& cache) const {
  const auto parts = linear(memory_TD, key_value_).chunk(2, -1);
  at::Tensor key = heads(parts[0].contiguous(), sequences),
             value = heads(parts[1].contiguous(), sequences);
  if (cache.length() > 0) {
    key = at::cat({cache.key_BHSd, key}, 2);
    value = at::cat({cache.value_BHSd, value}, 2);
  }
  cache = {key, value};
}

at::Tensor T5Attention::attend(const at::Tensor& x_TD, const KvCache& cache,
                               const at::Tensor& bias_BHSM) const {
  const int64_t sequences = cache.key_BHSd.size(0);
  const at::ScalarType type = x_TD.scalar_type(), exact = type == at::kDouble ? type : at::kFloat;
  const at::Tensor query = heads(linear(x_TD, query_), sequences);
  at::Tensor score = at::matmul(query, cache.key_BHSd.transpose(2, 3)).to(exact);
  if (bias_BHSM.defined()) score = score + bias_BHSM.to(exact);
  const at::Tensor mixed = at::matmul(score.softmax(-1).to(type), cache.value_BHSd);
  return linear(mixed.transpose(1, 2).reshape({x_TD.size(0), num_heads_ * head_dim_}), out_);
}

at::Tensor T5Attention::forward(const at::Tensor& x_TD, const at::Tensor& memory_TD,
                                int64_t sequences, const at::Tensor& bias_BHSM) const {
  RECORD_USER_SCOPE("sy::attention");
  KvCache all;
  extend(memory_TD, sequences, all);
  return attend(x_TD, all, bias_BHSM);
}

}  // namespace switchyard::models
