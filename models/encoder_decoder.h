#pragma once
// The encoder-decoder transformer of T5, GShard, Switch and ST-MoE: pre-norm layers with relative
// position bias; the decoder also attends to the encoder's output. Experts stand in place of every
// n-th FFN of both stacks.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layers/norm.h"
#include "models/text_model.h"
#include "parallel/mesh.h"

namespace switchyard::models {

// As a TextModel it is the decoder, all of whose layers are held; begin() and encode() run the
// encoder.
class EncoderDecoder : public TextModel {
 public:
  // num_layers counts the layers of each stack. Registers all parameters below `root`, whose table
  // must outlive the model, as must the mesh.
  EncoderDecoder(const Scope& root, const config::Model& model, const parallel::Mesh& mesh);

  // Tokens of the source behind its count and positions without a target are padding: no expert
  // sees them.
  Pass begin(const TokenBatch& batch, const StepContext& context, bool recompute) const override;
  at::Tensor embed(const Pass& pass) const override;
  bool has_encoder() const override { return true; }
  TextState encode(const at::Tensor& source_BM, const StepContext& context) const override;

 private:
  Pass go_on(const at::Tensor& tokens_BS, const StepContext& context,
             const TextState& state) const override;
  // The encoder's output [B*M, D] for source [B, M] int64.
  at::Tensor run_encoder(const at::Tensor& source_BM, const at::Tensor& mask_B11M,
                         const StepContext& context, bool recompute) const;
  // The decoder's pass over tokens [B, S] at positions seen .. seen + S - 1, without the encoder.
  Pass decoder_pass(int64_t seen, const at::Tensor& tokens_BS, const StepContext& context) const;
  // Dropout behind the final norm of either stack.
  HeadDropout final_dropout(bool is_decoder) const;
  // Masks are float32, or float64 where that is the compute type.
  at::TensorOptions mask_options() const;

  Parameter& encoder_bias_;  // of positions, for all layers of the stack
  Norm encoder_norm_;
  Layers encoder_;
  Parameter& decoder_bias_;
};

}  // namespace switchyard::models
