#pragma once
// The decoder-only transformer: embedding, pre-norm layers of attention and FFN (dense or MoE),
// final norm, vocabulary.

#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/layers/attention.h"
#include "models/layers/ffn.h"
#include "models/moe/moe_layer.h"
#include "parallel/mesh.h"

namespace switchyard::models {

class DecoderLayer {
 public:
  // moe_index: this layer's number among the MoE layers; unused by a dense layer.
  DecoderLayer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
               int64_t layer, int64_t moe_index);

  // x [B*S, D] -> [B*S, D]; see MoeLayer::forward for `decision`.
  at::Tensor forward(const at::Tensor& x_TD, const AttentionInput& input,
                     const StepContext& context, RoutingDecision& decision, KvCache* cache) const;

 private:
  at::Tensor forward_ffn(const at::Tensor& x_TD, const StepContext& context,
                         RoutingDecision& decision) const;
  at::Tensor forward_extra(const at::Tensor& x_TD) const;

  double norm_eps_;
  Parameter& attention_norm_;
  Attention attention_;
  Parameter& ffn_norm_;
  std::optional<DenseFfn> dense_;  // exactly one of the two
  std::optional<MoeLayer> moe_;
  // The dense sub-layer beside a MoE sub-layer, if any.
  config::Stacking stacking_ = config::NO_STACKING;
  Parameter* extra_norm_ = nullptr;
  std::optional<DenseFfn> extra_;
};

class Decoder {
 public:
  // Registers all parameters in `table`, which must outlive the decoder, as must the mesh.
  Decoder(ParameterTable& table, const config::Model& model, const parallel::Mesh& mesh);

  // This rank's share of the step's language-model loss: `scale` * sum of -log p(target), a
  // differentiable scalar.
  // **Collective** over the mesh. `nll` as in vocabulary_loss(). recompute: run each layer again in
  // backward.
  at::Tensor loss(const TokenBatch& batch, const StepContext& context, double scale,
                  const at::Tensor& nll, bool recompute) const;

  // Logits of the last position, [B, V] float32, appending to `caches` (one per layer).
  // **Collective** over the mesh's expert group. tokens [B, S] int64 continue what the caches hold.
  at::Tensor next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                         std::vector<KvCache>& caches) const;

 private:
  at::Tensor run_layers(at::Tensor x_TD, const AttentionInput& input, const StepContext& context,
                        bool recompute) const;
  Parameter& output_weight() const { return output_ ? *output_ : embedding_; }

  config::Model model_;
  Parameter& embedding_;
  std::vector<DecoderLayer> layers_;
  Parameter& final_norm_;
  Parameter* output_ = nullptr;  // null: tied to the embedding
};

}  // namespace switchyard::models
