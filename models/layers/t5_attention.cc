#include "models/layers/t5_attention.h"

#include <cmath>

#include "core/tensor/aten.h"
#include "models/layers/init.h"

namespace switchyard::models {

T5Attention::T5Attention(const Scope& scope, const config::Model& model, Kind kind)
    : num_heads_(heads_here(scope, model.attention().num_heads())),
      head_dim_(model.attention().head_dim()),
      scores_{model.attention().scale(), model.attention().logit_cap()},
      out_(scope.cut(Axis::kTensor, 1), "out", model.d_model(),
           int64_t{model.attention().num_heads()} * head_dim_, residual_init(model)) {
  if (kind == Kind::kProjected) return;
  const Init init = normal_init(model);
  const Init narrow{Init::kNormal, init.value / std::sqrt(static_cast<double>(head_dim_))};
  const int64_t queries = int64_t{model.attention().num_heads()} * head_dim_;
  const int64_t keys = int64_t{model.attention().num_kv_heads()} * head_dim_;
  const Scope by_head = scope.cut(Axis::kTensor, 0);
  const std::vector<Part> parts = {{"key", keys, init}, {"value", keys, init}};
  query_.emplace(by_head, "query", queries, model.d_model(), narrow);
  key_value_.emplace(kind == Kind::kCross ? by_head.of_target(false) : by_head, "key_value", parts,
                     model.d_model());
}

at::Tensor T5Attention::query(const at::Tensor& x_TD) const { return query_->forward(x_TD); }

at::Tensor T5Attention::key_value(const at::Tensor& memory_TD) const {
  return key_value_->forward(memory_TD);
}

// [B*S, heads d] -> [B, heads, S, d].
at::Tensor T5Attention::heads(const at::Tensor& flat, int64_t sequences) const {
  return flat.view({sequences, -1, flat.size(1) / head_dim_, head_dim_}).transpose(1, 2);
}

void T5Attention::extend(const at::Tensor& key_value_TE, int64_t sequences, const Rows& rows,
                         KvCache& cache) const {
  const auto parts = whole_heads(key_value_TE, head_dim_, rows).chunk(2, -1);
  at::Tensor key = heads(parts[0].contiguous(), sequences),
             value = heads(parts[1].contiguous(), sequences);
  cache.append(key, value);
}

at::Tensor T5Attention::attend_to(const KvCache& cache, const at::Tensor& query_TQ,
                                  const at::Tensor& mask_BHSM, const InnerDropout& dropout) const {
  ScoreOptions options = scores_;
  options.dropout = dropout;
  const at::Tensor query = heads(query_TQ, cache.key_BHSd.size(0));
  const at::Tensor out = attend(query, cache.key_BHSd, cache.value_BHSd, mask_BHSM, options);
  return out_.forward(out.transpose(1, 2).reshape({query_TQ.size(0), num_heads_ * head_dim_}));
}

}  // namespace switchyard::models
