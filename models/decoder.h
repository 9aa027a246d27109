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
#include "models/layers/latent_attention.h"
#include "models/layers/norm.h"
#include "models/moe/moe_layer.h"
#include "parallel/mesh.h"

namespace switchyard::models {

// The norms of one sub-layer: x + after(f(before(x))).
struct SubLayerNorms {
  // Registers <scope>.<name>_norm and, with sandwich_norm, <scope>.<name>_out_norm.
  SubLayerNorms(const Scope& scope, const std::string& name, const config::Model& model);

  Norm before;
  std::optional<Norm> after;
};

// Where a layer stands.
struct LayerPlace {
  int64_t layer;
  int64_t moe_index;         // its number among the MoE layers; unused by a dense layer
  Parameter* relative_bias;  // shared by all layers; null: none is
};

class DecoderLayer {
 public:
  DecoderLayer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
               const LayerPlace& place);

  // x [B*S, D] -> [B*S, D]; see MoeLayer::forward for `decision`.
  at::Tensor forward(const at::Tensor& x_TD, const AttentionInput& input,
                     const StepContext& context, RoutingDecision& decision, KvCache* cache) const;

 private:
  at::Tensor forward_ffn(const at::Tensor& x_TD, const StepContext& context,
                         RoutingDecision& decision) const;
  at::Tensor forward_extra(const at::Tensor& x_TD) const;

  at::Tensor forward_attention(const at::Tensor& x_TD, const AttentionInput& input,
                               KvCache* cache) const;

  SubLayerNorms attention_norms_;
  std::optional<Attention> attention_;  // exactly one of the two
  std::optional<LatentAttention> latent_;
  SubLayerNorms ffn_norms_;
  std::optional<DenseFfn> dense_;  // exactly one of the two
  std::optional<MoeLayer> moe_;
  // The dense sub-layer beside a MoE sub-layer, if any.
  config::Stacking stacking_ = config::NO_STACKING;
  std::optional<SubLayerNorms> extra_norms_;
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
  at::Tensor embed(const at::Tensor& tokens) const;
  at::Tensor hidden(const at::Tensor& x_TD) const;  // what the output matrix is multiplied with
  // Positions seen .. seen + length - 1 of each of `sequences`, without a mask.
  AttentionInput input_at(int64_t sequences, int64_t seen, int64_t length) const;
  at::Tensor run_layers(at::Tensor x_TD, const AttentionInput& input, const StepContext& context,
                        bool recompute) const;
  Parameter& output_weight() const { return output_ ? *output_ : embedding_; }

  config::Model model_;
  Parameter& embedding_;
  Parameter* relative_bias_ = nullptr;  // null: there is none, or each layer has its own
  std::vector<DecoderLayer> layers_;
  Norm final_norm_;
  Parameter* output_ = nullptr;  // null: tied to the embedding
};

}  // namespace switchyard::models
