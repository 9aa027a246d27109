#pragma once
// One layer of the encoder-decoder: pre-norm self-attention with a bias of positions, in the
// decoder attention to the encoder's output, and an FFN (dense or MoE).

#include <cstdint>
#include <optional>
#include <utility>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layer.h"
#include "models/layers/ffn.h"
#include "models/layers/norm.h"
#include "models/layers/t5_attention.h"
#include "models/moe/moe_layer.h"
#include "models/switch_projections.h"
#include "parallel/mesh.h"

namespace switchyard::models {

class T5Layer : public Layer {
 public:
  // Random streams of dropout: each layer has so many, from its number times that on.
  enum Part : uint32_t { kSelf = 0, kCross = 1, kFfn = 2, kExtra = 3, kParts = 4 };

  struct Place {
    bool is_decoder;           // of which stack: the decoder's layers have a cross-attention
    int64_t layer;             // within the stack
    int64_t router;            // the number of its first router within both stacks
    Parameter* relative_bias;  // the stack's
  };
  T5Layer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
          const Place& place);

  at::Tensor forward(const at::Tensor& x_TD, const Pass& pass, RoutingDecision& decision,
                     LayerState* state) const override;

 private:
  // The self-attention's queries [T, H d], and its keys beside values [T, 2 KV d].
  std::pair<at::Tensor, at::Tensor> project(const at::Tensor& normed_TD, const StepContext& context,
                                            RoutingDecision& decision) const;
  at::Tensor attend_to_itself(const at::Tensor& x_TD, const Pass& pass, RoutingDecision& decision,
                              KvCache& cache) const;
  at::Tensor attend_to_memory(const at::Tensor& x_TD, const Pass& pass, KvCache& cache) const;
  at::Tensor feed_forward(const at::Tensor& x_TD, const StepContext& context,
                          RoutingDecision& decision) const;
  at::Tensor forward_dense(const DenseFfn& ffn, const at::Tensor& x_TD,
                           const StepContext& context) const;
  at::Tensor forward_extra(const at::Tensor& x_TD, const StepContext& context) const;
  at::Tensor drop(const at::Tensor& y_TD, const StepContext& context, Part part) const;
  InnerDropout drop_weights(const StepContext& context, Part part) const;

  config::Model model_;
  uint32_t number_;  // within both stacks, encoder first, for the random streams
  Parameter& relative_bias_;
  Norm attention_norm_;
  std::optional<SwitchProjections> projections_;  // in place of the self-attention's own
  T5Attention attention_;
  std::optional<Norm> cross_norm_;  // the decoder's, as its cross-attention
  std::optional<T5Attention> cross_;
  Norm ffn_norm_;
  std::optional<DenseFfn> dense_;  // exactly one of the two
  std::optional<MoeLayer> moe_;
  std::optional<Norm> extra_norm_;  // of the dense sub-layer beside a MoE sub-layer, if any
  std::optional<DenseFfn> extra_;
};

}  // namespace switchyard::models
