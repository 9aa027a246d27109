#pragma once
// The encoder-decoder transformer of T5, GShard, Switch and ST-MoE: pre-norm layers with relative
// position bias; the decoder also attends to the encoder's output. Experts stand in place of every
// n-th FFN of both stacks.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/layers/ffn.h"
#include "models/layers/norm.h"
#include "models/layers/t5_attention.h"
#include "models/moe/moe_layer.h"
#include "models/switch_projections.h"
#include "parallel/mesh.h"

namespace switchyard::models {

// One layer of either stack; the decoder's have a cross-attention. `number` counts the layers of
// both stacks, encoder first, for the random streams; moe_index likewise the MoE layers.
class T5Layer {
 public:
  struct Place {
    int64_t layer = 0, number = 0, moe_index = 0;  // the last counts routers
    bool is_decoder = false;
  };
  T5Layer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
          const Place& place);

  // What all layers of one pass through a stack share.
  struct Input {
    int64_t sequences = 0;
    at::Tensor source_mask_B11M;  // 0 or -inf
    StepContext context;
  };

  // x [B*S, D], memory [B*M, D] (the decoder's only) -> [B*S, D]. `bias` holds position bias and
  // mask of the self-attention.
  at::Tensor forward(const at::Tensor& x_TD, const at::Tensor& memory_TD, const at::Tensor& bias,
                     const Input& input, RoutingDecision& decision) const;

  // For generation: the same for the decoder's next positions, with keys and values of the earlier
  // ones and of the memory cached.
  struct Caches {
    KvCache self, cross;
  };
  at::Tensor next(const at::Tensor& x_TD, const at::Tensor& memory_TD, const at::Tensor& bias,
                  const Input& input, Caches& caches) const;

 private:
  // Queries, and keys and values, of the self-attention.
  std::pair<at::Tensor, at::Tensor> project(const at::Tensor& normed_TD, const StepContext& context,
                                            RoutingDecision& decision) const;
  at::Tensor forward_extra(const at::Tensor& h_TD, const Input& input) const;
  at::Tensor feed_forward(const at::Tensor& h_TD, const Input& input,
                          RoutingDecision& decision) const;
  at::Tensor drop(const at::Tensor& y_TD, const Input& input, uint32_t part) const;
  InnerDropout drop_weights(const Input& input, uint32_t part) const;
  InnerDropout drop_hidden(const Input& input) const;

  config::Model model_;
  uint32_t number_;
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

class EncoderDecoder {
 public:
  // num_layers counts the layers of each stack. Registers all parameters in `table`, which must
  // outlive the model, as must the mesh.
  EncoderDecoder(const Scope& root, const config::Model& model, const parallel::Mesh& mesh);

  // As Decoder::loss, of the batch's targets given its source and the targets before them. Tokens
  // of the source behind its count and positions without a target are padding: no expert sees them.
  at::Tensor loss(const TokenBatch& batch, const StepContext& context, double scale,
                  const at::Tensor& nll, bool recompute) const;

  // What generation carries along.
  struct State {
    at::Tensor memory_TD;  // the encoder's output
    std::vector<T5Layer::Caches> layers;
  };
  // **Collective** over the mesh's expert group, as next_logits. source [B, M] int64.
  State encode(const at::Tensor& source_BM, const StepContext& context) const;
  // Logits after the last of `tokens`, [B, V] float32; tokens [B, S] go on from the state.
  at::Tensor next_logits(const at::Tensor& tokens_BS, const StepContext& context,
                         State& state) const;

 private:
  struct Stack {
    Parameter& relative_bias;  // of all layers
    std::vector<T5Layer> layers;
    Norm final_norm;
  };
  Stack make_stack(const Scope& scope, const parallel::Mesh& mesh, bool is_decoder) const;
  at::Tensor run_stack(const Stack& stack, at::Tensor x_TD, const at::Tensor& memory_TD,
                       const T5Layer::Input& input, bool recompute) const;
  // Position bias and mask of the self-attention; the decoder's for positions from `seen` on.
  at::Tensor encoder_bias(const at::Tensor& x_TD, const T5Layer::Input& input) const;
  at::Tensor decoder_bias(const at::Tensor& x_TD, int64_t seen, const T5Layer::Input& input) const;
  at::Tensor self_bias(const Stack& stack, const at::Tensor& x_TD,
                       const T5Layer::Input& input) const;
  at::Tensor embed(const at::Tensor& tokens, const StepContext& context, uint32_t stream) const;
  at::Tensor encode(const at::Tensor& source_BM, const T5Layer::Input& input, bool recompute) const;
  Parameter& output_weight() const { return output_ ? *output_ : embedding_; }

  config::Model model_;
  Parameter& embedding_;
  Stack encoder_, decoder_;
  Parameter* output_;  // null: tied to the embedding
};

}  // namespace switchyard::models
