#include "models/decoder_layer.h"

#include "core/config/layers.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

template <typename F>
at::Tensor residual(const at::Tensor& x_TD, const SubLayerNorms& norms, F&& f) {
  const at::Tensor y_TD = f(norms.before.forward(x_TD));
  return x_TD + (norms.after ? norms.after->forward(y_TD) : y_TD);
}

// The same of a sub-layer whose matrices are dealt over ranks: it reads the rows of all of them and
// gives terms.
template <typename F>
at::Tensor dealt_residual(const at::Tensor& x_TD, const SubLayerNorms& norms, const Rows& rows,
                          F&& f) {
  return residual(x_TD, norms,
                  [&](const at::Tensor& normed_TD) { return rows.sum(f(rows.gather(normed_TD))); });
}

}  // namespace

SubLayerNorms::SubLayerNorms(const Scope& scope, const std::string& name,
                             const config::Model& model)
    : before(scope, name + "_norm", model) {
  if (model.sandwich_norm()) after.emplace(scope, name + "_out_norm", model);
}

DecoderLayer::DecoderLayer(const Scope& scope, const config::Model& model,
                           const parallel::Mesh& mesh, int64_t layer, Parameter* relative_bias)
    : number_(static_cast<uint32_t>(layer)),
      attention_dropout_(model.attention().dropout()),
      ffn_dropout_(model.ffn_dropout()),
      attention_norms_(scope, "attention", model),
      ffn_norms_(scope, "ffn", model) {
  const bool is_moe = config::is_moe_layer(model, layer);
  const Scope attention = (scope / "attention").as(Role::kAttention);
  int64_t router = config::first_router(model, layer);
  if (is_moe && model.attention().switch_projections()) {
    projections_.emplace(attention, model, mesh, number_, router);
    router += SwitchProjections::kCount;
  }
  if (model.attention().has_latent()) {
    latent_.emplace(attention, model);
  } else {
    attention_.emplace(attention, model, relative_bias, projections_.has_value());
  }
  if (is_moe) {
    moe_.emplace(scope / "moe", model, mesh, number_, router);
    stacking_ = model.moe().stacking();
  } else {
    dense_.emplace((scope / "ffn").as(Role::kFfn), model, model.ffn(), model.d_ff());
  }
  if (stacking_ == config::NO_STACKING) return;
  extra_norms_.emplace(scope, "extra_ffn", model);
  extra_.emplace((scope / "extra_ffn").as(Role::kFfn), model, model.ffn(), model.d_ff());
}

at::Tensor DecoderLayer::forward(const at::Tensor& x_TD, const Pass& pass,
                                 RoutingDecision& decision, LayerState* state) const {
  at::Tensor h_TD = forward_attention(x_TD, pass, decision, state ? &state->self : nullptr);
  if (stacking_ == config::DENSE_BEFORE) h_TD = forward_extra(h_TD, pass.context);
  h_TD = forward_ffn(h_TD, pass.context, decision);
  return stacking_ == config::DENSE_AFTER ? forward_extra(h_TD, pass.context) : h_TD;
}

at::Tensor DecoderLayer::forward_attention(const at::Tensor& x_TD, const Pass& pass,
                                           RoutingDecision& decision, KvCache* cache) const {
  const InnerDropout dropout = inner_dropout(attention_dropout_, pass.context, number_);
  const Rows& rows = pass.context.rows;
  if (projections_) {
    return residual(x_TD, attention_norms_, [&](const at::Tensor& normed_TD) {
      const at::Tensor qkv_TD = projections_->forward(normed_TD, pass.context, decision);
      return rows.sum(attention_->forward_projected(qkv_TD, pass.attention, cache, dropout));
    });
  }
  return dealt_residual(x_TD, attention_norms_, rows, [&](const at::Tensor& normed_TD) {
    return latent_ ? latent_->forward(normed_TD, pass.attention, cache, dropout)
                   : attention_->forward(normed_TD, pass.attention, cache, dropout);
  });
}

at::Tensor DecoderLayer::forward_ffn(const at::Tensor& x_TD, const StepContext& context,
                                     RoutingDecision& decision) const {
  if (moe_) {
    return residual(x_TD, ffn_norms_, [&](const at::Tensor& normed_TD) {
      return moe_->forward(normed_TD, context, decision);
    });
  }
  return dealt_residual(x_TD, ffn_norms_, context.rows, [&](const at::Tensor& normed_TD) {
    return dense_->forward(normed_TD, inner_dropout(ffn_dropout_, context, number_));
  });
}

at::Tensor DecoderLayer::forward_extra(const at::Tensor& x_TD, const StepContext& context) const {
  return dealt_residual(x_TD, *extra_norms_, context.rows, [&](const at::Tensor& normed_TD) {
    return extra_->forward(normed_TD, inner_dropout(ffn_dropout_, context, number_));
  });
}

}  // namespace switchyard::models
