#pragma once
// The language model of Shazeer et al. (2017), "Outrageously large neural networks": embedding,
// LSTM layers with a mixture of experts between them, softmax.
//
// Every layer but the softmax: dropout on its output, then the layer's input is added (not for the
// embedding, which has none). The mixture's output passes through a sigmoid before its dropout.

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/layers/lstm.h"
#include "models/moe/moe_layer.h"
#include "parallel/mesh.h"

namespace switchyard::models {

class LstmLm {
 public:
  // num_layers counts LSTM layers; those that are MoE layers by config::is_moe_layer are followed
  // by a mixture of experts. Registers all parameters in `table`, which must outlive the model, as
  // must the mesh.
  LstmLm(const Scope& root, const config::Model& model, const parallel::Mesh& mesh);

  // As Decoder::loss. In training with model.lstm.sampled_softmax the loss is the sampled softmax's
  // estimate; `nll` must then be undefined.
  at::Tensor loss(const TokenBatch& batch, const StepContext& context, double scale,
                  const at::Tensor& nll, bool recompute) const;

  // Logits of the last position, [B, V] float32, going on from `states` (one per LSTM layer, empty
  // at the beginning). **Collective** over the mesh's expert group.
  at::Tensor next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                         std::vector<LstmState>& states) const;

 private:
  struct Layer {
    Lstm lstm;
    std::optional<MoeLayer> moe;
  };
  struct Pass;  // what all layers of one pass share
  at::Tensor run_layer(size_t i, const at::Tensor& x_TD, const Pass& pass, LstmState* state,
                       RoutingDecision& decision) const;
  at::Tensor embed(const at::Tensor& tokens_BS, const StepContext& context) const;
  Parameter& output_weight() const { return output_ ? *output_ : embedding_; }

  config::Model model_;
  Parameter& embedding_;
  std::deque<Layer> layers_;
  Parameter* output_ = nullptr;  // null: tied to the embedding
};

}  // namespace switchyard::models
