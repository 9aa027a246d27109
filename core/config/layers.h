#pragma once
// Which layers of a model are MoE layers, and what else follows from a model's config alone.

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Layers first_layer, first_layer + every_n_layers, ... are MoE; the others are dense.
inline bool is_moe_layer(const Model& model, int layer) {
  const Moe& moe = model.moe();
  return model.has_moe() && layer >= moe.first_layer() &&
         (layer - moe.first_layer()) % moe.every_n_layers() == 0;
}

// An encoder-decoder has its num_layers layers twice.
inline int num_stacks(const Model& model) {
  return model.architecture() == ENCODER_DECODER ? 2 : 1;
}

// Of all stacks.
inline int num_moe_layers(const Model& model) {
  const Moe& moe = model.moe();
  if (!model.has_moe() || moe.first_layer() >= model.num_layers()) return 0;
  return num_stacks(model) *
         ((model.num_layers() - moe.first_layer() - 1) / moe.every_n_layers() + 1);
}

inline bool has_attention(const Model& model) {
  return model.architecture() != LSTM_LM && model.architecture() != LOCAL_EXPERTS;
}

// Whether model.d_ff is used: by dense layers, or beside the MoE sub-layers.
inline bool has_dense_ffn(const Model& model) {
  if (model.architecture() == LSTM_LM || model.architecture() == LOCAL_EXPERTS) return false;
  return num_stacks(model) * model.num_layers() > num_moe_layers(model) ||
         (model.has_moe() && model.moe().stacking() > NO_STACKING);
}

// Channels of a head that RoPE turns.
inline int rotary_width(const Attention& attention) {
  return attention.has_latent() ? attention.latent().rope_dim() : attention.head_dim();
}

// Channels of a head's value.
inline int value_width(const Attention& attention) {
  return attention.has_latent() ? attention.latent().value_dim() : attention.head_dim();
}

// Whether an FFN has a third matrix, whose product gates the second.
inline bool is_gated(Ffn kind) { return kind >= SWIGLU && kind <= REGLU; }

}  // namespace switchyard::config
