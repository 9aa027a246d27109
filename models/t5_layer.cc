#include "models/t5_layer.h"

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"
#include "models/layers/dropout.h"

namespace switchyard::models {
namespace {

std::optional<SwitchProjections> switch_projections(const Scope& scope, const config::Model& model,
                                                    const parallel::Mesh& mesh, uint32_t number,
                                                    const T5Layer::Place& place) {
  if (!model.attention().switch_projections() || !config::is_moe_layer(model, place.layer))
    return std::nullopt;
  return SwitchProjections(scope, model, mesh, number, place.router);
}

Scope attention_scope(const Scope& layer) { return (layer / "attention").as(Role::kAttention); }

}  // namespace

T5Layer::T5Layer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
                 const Place& place)
    : model_(model),
      number_(static_cast<uint32_t>(place.layer + (place.is_decoder ? model.num_layers() : 0))),
      relative_bias_(*place.relative_bias),
      attention_norm_(scope, "attention_norm", model),
      projections_(switch_projections(attention_scope(scope), model, mesh, number_, place)),
      attention_(attention_scope(scope), model,
                 projections_ ? T5Attention::Kind::kProjected : T5Attention::Kind::kSelf),
      ffn_norm_(scope, "ffn_norm", model) {
  if (place.is_decoder) {
    cross_norm_.emplace(scope, "cross_attention_norm", model);
    cross_.emplace((scope / "cross_attention").as(Role::kAttention), model,
                   T5Attention::Kind::kCross);
  }
  if (config::is_moe_layer(model, place.layer)) {
    const int64_t earlier = projections_ ? SwitchProjections::kCount : 0;
    moe_.emplace(scope / "moe", model, mesh, number_, place.router + earlier);
  } else {
    dense_.emplace((scope / "ffn").as(Role::kFfn), model, model.ffn(), model.d_ff());
  }
  if (moe_ && model.moe().stacking() > config::NO_STACKING) {
    extra_norm_.emplace(scope, "extra_ffn_norm", model);
    extra_.emplace((scope / "extra_ffn").as(Role::kFfn), model, model.ffn(), model.d_ff());
  }
}

at::Tensor T5Layer::drop(const at::Tensor& y_TD, const StepContext& context, Part part) const {
  return dropout(y_TD, model_.dropout(), context, number_ * kParts + part);
}

InnerDropout T5Layer::drop_weights(const StepContext& context, Part part) const {
  return inner_dropout(model_.attention().dropout(), context, number_ * kParts + part);
}

at::Tensor T5Layer::forward(const at::Tensor& x_TD, const Pass& pass, RoutingDecision& decision,
                            LayerState* state) const {
  LayerState whole_texts;
  LayerState& caches = state ? *state : whole_texts;
  at::Tensor h_TD = attend_to_itself(x_TD, pass, decision, caches.self);
  if (cross_) h_TD = attend_to_memory(h_TD, pass, caches.cross);
  return feed_forward(h_TD, pass.context, decision);
}

std::pair<at::Tensor, at::Tensor> T5Layer::project(const at::Tensor& normed_TD,
                                                   const StepContext& context,
                                                   RoutingDecision& decision) const {
  if (!projections_) {
    const at::Tensor rows_TD = context.rows.gather(normed_TD);
    return {attention_.query(rows_TD), attention_.key_value(rows_TD)};
  }
  const int64_t queries = int64_t{model_.attention().num_heads()} * model_.attention().head_dim() /
                          context.rows.place().size;
  const at::Tensor all = projections_->forward(normed_TD, context, decision);
  return {all.slice(1, 0, queries), all.slice(1, queries)};
}

at::Tensor T5Layer::attend_to_itself(const at::Tensor& x_TD, const Pass& pass,
                                     RoutingDecision& decision, KvCache& cache) const {
  const at::Tensor bias =
      pass.bias_BHSS.defined() ? pass.bias_BHSS : position_bias(pass.attention, relative_bias_);
  const Rows& rows = pass.context.rows;
  const auto [query, key_value] = project(attention_norm_.forward(x_TD), pass.context, decision);
  const ProfiledPart part("sy::attention");
  attention_.extend(key_value, pass.attention.sequences, rows, cache);
  const at::Tensor y_TD =
      rows.sum(attention_.attend_to(cache, query, bias, drop_weights(pass.context, kSelf)));
  return x_TD + drop(y_TD, pass.context, kSelf);
}

at::Tensor T5Layer::attend_to_memory(const at::Tensor& x_TD, const Pass& pass,
                                     KvCache& cache) const {
  const Rows& rows = pass.context.rows;
  const at::Tensor query = cross_->query(rows.gather(cross_norm_->forward(x_TD)));
  if (cache.length() == 0)
    cross_->extend(cross_->key_value(pass.memory_TD), pass.attention.sequences, rows, cache);
  const ProfiledPart part("sy::attention");
  const at::Tensor y_TD = rows.sum(
      cross_->attend_to(cache, query, pass.memory_mask_B11M, drop_weights(pass.context, kCross)));
  return x_TD + drop(y_TD, pass.context, kCross);
}

at::Tensor T5Layer::feed_forward(const at::Tensor& x_TD, const StepContext& context,
                                 RoutingDecision& decision) const {
  const config::Stacking stacking = extra_ ? model_.moe().stacking() : config::NO_STACKING;
  const at::Tensor h_TD = stacking == config::DENSE_BEFORE ? forward_extra(x_TD, context) : x_TD;
  const at::Tensor normed_TD = ffn_norm_.forward(h_TD);
  const at::Tensor y_TD = moe_ ? moe_->forward(normed_TD, context, decision)
                               : forward_dense(*dense_, normed_TD, context);
  const at::Tensor z_TD = h_TD + drop(y_TD, context, kFfn);
  return stacking == config::DENSE_AFTER ? forward_extra(z_TD, context) : z_TD;
}

at::Tensor T5Layer::forward_dense(const DenseFfn& ffn, const at::Tensor& x_TD,
                                  const StepContext& context) const {
  const InnerDropout dropout = inner_dropout(model_.ffn_dropout(), context, number_);
  return context.rows.sum(ffn.forward(context.rows.gather(x_TD), dropout));
}

at::Tensor T5Layer::forward_extra(const at::Tensor& x_TD, const StepContext& context) const {
  const at::Tensor y_TD = forward_dense(*extra_, extra_norm_->forward(x_TD), context);
  return x_TD + drop(y_TD, context, kExtra);
}

}  // namespace switchyard::models
