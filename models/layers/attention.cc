#include "models/layers/attention.h"

#include <cmath>

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"
#include "models/layers/init.h"

namespace switchyard::models {
namespace {

// The rows of queries, keys and values. Queries start narrower where scores are not scaled (T5,
// GLaM).
std::vector<Part> qkv_parts(const config::Attention& attention, const Init& init) {
  const int64_t keys = int64_t{1} * attention.num_kv_heads() * attention.head_dim();
  Init query = init;
  if (attention.position() == config::RELATIVE_BIAS)
    query.factor = 1 / std::sqrt(static_cast<double>(attention.head_dim()));
  return {{"query", int64_t{1} * attention.num_heads() * attention.head_dim(), query},
          {"key", keys, init},
          {"value", keys, init}};
}

Dense joint_projection(const Scope& scope, const config::Model& model) {
  return {scope.cut(Axis::kTensor, 0), "qkv", qkv_parts(model.attention(), normal_init(model)),
          model.d_model()};
}

}  // namespace

int64_t heads_here(const Scope& scope, int64_t heads) {
  return share_of(heads, scope.layout()[Axis::kTensor]).size();
}

int64_t kv_heads_here(const Scope& scope, int64_t heads) {
  return heads < scope.layout()[Axis::kTensor].size ? 1 : heads_here(scope, heads);
}

at::Tensor whole_heads(const at::Tensor& key_value_TE, int64_t head_dim, const Rows& rows) {
  const int64_t tokens = key_value_TE.size(0), part = key_value_TE.size(1) / 2;
  if (part >= head_dim) return key_value_TE;
  const auto [rank, ranks] = rows.place();
  const int64_t neighbours = head_dim / part;
  return rows.of(ranks * 2 * part)
      .gather(key_value_TE.t())
      .view({ranks, 2, part, tokens})
      .narrow(0, rank / neighbours * neighbours, neighbours)
      .permute({3, 1, 0, 2})
      .reshape({tokens, 2 * head_dim});
}

void KvCache::append(at::Tensor& key, at::Tensor& value) {
  if (length() > 0) {
    key = at::concat({key_BHSd, key}, 2);
    value = at::concat({value_BHSd, value}, 2);
  }
  *this = {key, value};
}

Parameter& register_relative_bias(const Scope& scope, const config::Model& model) {
  const config::Attention& attention = model.attention();
  Parameter& bias =
      scope.as(Role::kAttention)
          .cut(Axis::kTensor, 1)
          .table("relative_bias", {attention.relative_bias().num_buckets(), attention.num_heads()},
                 normal_init(model));
  bias.decay = false;
  return bias;
}

at::Tensor position_bias(const AttentionInput& input, Parameter& table) {
  const at::Tensor bias_1HSS = embedding(input.bucket_SS, table).permute({2, 0, 1}).unsqueeze(0);
  return input.mask_B1SS.defined() ? bias_1HSS + input.mask_B1SS : bias_1HSS;
}

Attention::Attention(const Scope& scope, const config::Model& model, Parameter* shared_bias,
                     bool projected)
    : options_(model.attention()),
      num_heads_(heads_here(scope, options_.num_heads())),
      num_kv_heads_(kv_heads_here(scope, options_.num_kv_heads())),
      head_dim_(options_.head_dim()),
      qkv_(projected ? std::nullopt : std::optional(joint_projection(scope, model))),
      out_(scope.cut(Axis::kTensor, 1), "out", model.d_model(),
           int64_t{options_.num_heads()} * head_dim_, residual_init(model)),
      relative_bias_(shared_bias) {
  if (options_.qkv_bias()) {
    qkv_bias_ = &scope.cut(Axis::kTensor, 0)
                     .vector("qkv_bias", qkv_parts(options_, {Init::kConstant, 0}), Use::kShift);
  }
  if (options_.qk_norm() != config::NO_QK_NORM) {
    const bool whole = options_.qk_norm() == config::FULL_WIDTH;
    const NormOptions norm = rms_norm_options(model);
    const Scope place = whole ? scope.cut(Axis::kTensor, 0) : scope;
    q_norm_.emplace(place, "q_norm", norm, head_dim_ * (whole ? options_.num_heads() : 1));
    k_norm_.emplace(place, "k_norm", norm, head_dim_ * (whole ? options_.num_kv_heads() : 1));
  }
  if (options_.position() == config::RELATIVE_BIAS && !relative_bias_)
    relative_bias_ = &register_relative_bias(scope, model);
}

at::Tensor Attention::refine(at::Tensor qkv, const Rows& rows) const {
  const int64_t queries = num_heads_ * head_dim_, keys = (qkv.size(1) - queries) / 2;
  if (qkv_bias_) qkv = qkv + use(*qkv_bias_, qkv.scalar_type());
  if (options_.qk_norm() == config::FULL_WIDTH) {
    const auto parts = qkv.split_with_sizes({queries, keys, keys}, 1);
    qkv = at::concat(
        {q_norm_->forward_dealt(parts[0], rows), k_norm_->forward_dealt(parts[1], rows), parts[2]},
        1);
  }
  if (options_.qkv_clip() > 0) qkv = qkv.clamp(-options_.qkv_clip(), options_.qkv_clip());
  if (keys == num_kv_heads_ * head_dim_) return qkv;
  const auto parts = qkv.split_with_sizes({queries, 2 * keys}, 1);
  return at::concat({parts[0], whole_heads(parts[1], head_dim_, rows)}, 1);
}

at::Tensor Attention::place(const at::Tensor& qk_BSHd, const AttentionInput& input) const {
  at::Tensor qk = qk_BSHd;
  if (options_.qk_norm() == config::PER_HEAD) {
    const auto parts = qk.split_with_sizes({num_heads_, num_kv_heads_}, 2);
    qk = at::concat({q_norm_->forward(parts[0]), k_norm_->forward(parts[1])}, 2);
  }
  return options_.position() == config::ROPE ? rope(qk, input.rotary.cos_Sd, input.rotary.sin_Sd)
                                             : qk;
}

at::Tensor Attention::forward(const at::Tensor& x_TD, const AttentionInput& input, KvCache* cache,
                              const InnerDropout& dropout) const {
  const ProfiledPart part("sy::attention");
  return forward_projected(qkv_->forward(x_TD), input, cache, dropout);
}

at::Tensor Attention::forward_projected(const at::Tensor& qkv_TD, const AttentionInput& input,
                                        KvCache* cache, const InnerDropout& dropout) const {
  const at::Tensor qkv =
      refine(qkv_TD, input.rows)
          .view({input.sequences, input.length, num_heads_ + 2 * num_kv_heads_, head_dim_});
  const auto parts = qkv.split_with_sizes({num_heads_ + num_kv_heads_, num_kv_heads_}, 2);
  // Queries and keys at once.
  const auto qk = place(parts[0], input).split_with_sizes({num_heads_, num_kv_heads_}, 2);
  const at::Tensor query = qk[0].transpose(1, 2);
  at::Tensor key = qk[1].transpose(1, 2), value = parts[1].transpose(1, 2);
  if (cache) cache->append(key, value);
  const at::Tensor mask = relative_bias_ ? position_bias(input, *relative_bias_) : input.mask_B1SS;
  const at::Tensor out =
      attend(query, key, value, mask, {options_.scale(), options_.logit_cap(), dropout});
  return out_.forward(out.transpose(1, 2).reshape({qkv_TD.size(0), num_heads_ * head_dim_}));
}

}  // namespace switchyard::models
