#pragma once
// One layer of a model of text, and what layers share.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/layers/attention.h"
#include "models/layers/lstm.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"

namespace switchyard::models {

// What a layer carries from one pass to the next while text is written. Each kind of layer uses its
// own part; all are empty at the beginning.
struct LayerState {
  KvCache self, cross;
  LstmState lstm;
};

// What all layers share in one pass over rows of tokens: a micro-batch, or the next tokens of texts
// that are being written.
struct Pass {
  StepContext context;       // of these tokens, their ids included
  AttentionInput attention;  // their number and places, and where self-attention may look
  int64_t seen = 0;          // positions of each text that earlier passes have read
  // [B, S] int32: layers with a memory of their own forget it where a document ends. Undefined:
  // each row goes on from its LayerState.
  at::Tensor documents_BS;
  // All rows of the encoder's output [B*M, D] for a decoder's cross-attention, through which
  // gradients flow back, and its mask: 0 or -inf. Undefined: there is no encoder; every position is
  // visible.
  at::Tensor memory_TD, memory_mask_B11M;
  // T5's position bias plus the mask, where one tensor serves all layers; undefined: each layer
  // makes its own.
  at::Tensor bias_BHSS;
  bool recompute = false;  // whether each layer runs again in backward
  // While text is written: what each of the model's layers held here goes on from. Empty: the rows
  // are whole texts.
  std::span<LayerState> states;
};

class Layer {
 public:
  virtual ~Layer() = default;

  // Rows x [B*S, D] -> [B*S, D]. A made `decision` is obeyed, an empty one is filled. With a
  // `state` the rows go on from it, and it is brought up to date; null: the rows are whole texts.
  // **Collective** over the mesh where the layer has experts.
  virtual at::Tensor forward(const at::Tensor& x_TD, const Pass& pass, RoutingDecision& decision,
                             LayerState* state) const = 0;
};
using Layers = std::vector<std::unique_ptr<Layer>>;

// The rows after a layer, which runs again in backward where the pass recomputes. **Collective** as
// the layer is, each time. number: the layer's in messages. state: as in Layer::forward(); null
// where the pass recomputes.
at::Tensor run_layer(const Layer& layer, int64_t number, const at::Tensor& x_TD, const Pass& pass,
                     LayerState* state = nullptr);

}  // namespace switchyard::models
