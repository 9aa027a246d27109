#pragma once
// One layer of the decoder: pre-norm attention and FFN (dense or MoE).

#include <cstdint>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layer.h"
#include "models/layers/attention.h"
#include "models/layers/ffn.h"
#include "models/layers/latent_attention.h"
#include "models/layers/norm.h"
#include "models/moe/moe_layer.h"
#include "models/switch_projections.h"
#include "parallel/mesh.h"

namespace switchyard::models {

// The norms of one sub-layer: x + after(f(before(x))).
struct SubLayerNorms {
  // Registers <scope>.<name>_norm and, with sandwich_norm, <scope>.<name>_out_norm.
  SubLayerNorms(const Scope& scope, const std::string& name, const config::Model& model);

  Norm before;
  std::optional<Norm> after;
};

class DecoderLayer : public Layer {
 public:
  // layer: its number in the model, from 0. relative_bias: what all layers share; null: nothing.
  DecoderLayer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
               int64_t layer, Parameter* relative_bias);

  at::Tensor forward(const at::Tensor& x_TD, const Pass& pass, RoutingDecision& decision,
                     LayerState* state) const override;

 private:
  at::Tensor forward_attention(const at::Tensor& x_TD, const Pass& pass, RoutingDecision& decision,
                               KvCache* cache) const;
  at::Tensor forward_ffn(const at::Tensor& x_TD, const StepContext& context,
                         RoutingDecision& decision) const;
  at::Tensor forward_extra(const at::Tensor& x_TD, const StepContext& context) const;

  uint32_t number_;
  double attention_dropout_, ffn_dropout_;
  SubLayerNorms attention_norms_;
  std::optional<Attention> attention_;  // exactly one of the two
  std::optional<LatentAttention> latent_;
  std::optional<SwitchProjections> projections_;  // in place of attention_'s own
  SubLayerNorms ffn_norms_;
  std::optional<DenseFfn> dense_;  // exactly one of the two
  std::optional<MoeLayer> moe_;
  // The dense sub-layer beside a MoE sub-layer, if any.
  config::Stacking stacking_ = config::NO_STACKING;
  std::optional<SubLayerNorms> extra_norms_;
  std::optional<DenseFfn> extra_;
};

}  // namespace switchyard::models
