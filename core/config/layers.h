#pragma once
// Which layers of a model are MoE layers, and what else follows from one group of the config alone.

#include <cstdint>

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Layers first_layer, first_layer + every_n_layers, ... are MoE; the others are dense.
inline bool is_moe_layer(const Model& model, int64_t layer) {
  const Moe& moe = model.moe();
  return model.has_moe() && layer >= moe.first_layer() &&
         (layer - moe.first_layer()) % moe.every_n_layers() == 0;
}

// An encoder-decoder has its num_layers layers twice.
inline int num_stacks(const Model& model) {
  return model.architecture() == ENCODER_DECODER ? 2 : 1;
}

// The layers of one stack; multi-token prediction's is one more, after the last.
inline int num_stack_layers(const Model& model) {
  return model.num_layers() + (model.has_mtp() ? 1 : 0);
}

// The MoE layers that a stack has before this layer.
inline int moe_layers_before(const Model& model, int64_t layer) {
  const Moe& moe = model.moe();
  if (!model.has_moe() || layer <= moe.first_layer()) return 0;
  return static_cast<int>((layer - moe.first_layer() - 1) / moe.every_n_layers() + 1);
}

// The MoE layers of all stacks, multi-token prediction's layer included.
inline int num_moe_layers(const Model& model) {
  return num_stacks(model) * moe_layers_before(model, num_stack_layers(model));
}

// The MoE layers that evaluation and generation run: all but multi-token prediction's.
inline int num_lasting_moe_layers(const Model& model) {
  return num_stacks(model) * moe_layers_before(model, model.num_layers());
}

// A MoE layer's FFN, and its queries, keys and values where those are mixtures too.
inline int routers_per_moe_layer(const Model& model) {
  return model.attention().switch_projections() ? 4 : 1;
}
inline int num_routers(const Model& model) {
  return num_moe_layers(model) * routers_per_moe_layer(model);
}
inline int num_lasting_routers(const Model& model) {
  return num_lasting_moe_layers(model) * routers_per_moe_layer(model);
}
// Routers are counted from 0 through all stacks: the number of the first that a MoE layer has.
inline int first_router(const Model& model, int64_t layer, int stack = 0) {
  const int before = stack * moe_layers_before(model, model.num_layers());
  return (before + moe_layers_before(model, layer)) * routers_per_moe_layer(model);
}

// Whether tokens compete for experts by their weights, in evaluation too.
inline bool ranks_tokens(const Moe& moe) {
  const DropPolicy policy = moe.capacity().policy();
  const Selection selection = moe.router().selection();
  return (policy == BATCH_PRIORITIZED || policy == BY_PROBABILITY) && selection != EXPERT_CHOICE &&
         selection != STRICTLY_BALANCED;  // whose experts choose
}

// Whether experts choose in an encoder alone: its decoder, which must not see later tokens, has
// tokens choose.
inline bool decoder_chooses_by_token(const Model& model) {
  return model.architecture() == ENCODER_DECODER &&
         model.moe().router().selection() == EXPERT_CHOICE && !model.moe().allow_future();
}

inline bool has_attention(const Model& model) {
  return model.architecture() != LSTM_LM && model.architecture() != LOCAL_EXPERTS;
}

// Whether there is text, or are cases, to evaluate on.
inline bool has_validation(const Data& data) {
  return data.has_synthetic() || data.has_table() || data.validation_size() > 0;
}

inline bool has_embedding(const Model& model) { return model.architecture() != LOCAL_EXPERTS; }

// Whether model.d_ff is used: by dense layers, or beside the MoE sub-layers.
inline bool has_dense_ffn(const Model& model) {
  if (!has_attention(model)) return false;
  return num_stacks(model) * num_stack_layers(model) > num_moe_layers(model) ||
         (model.has_moe() && model.moe().stacking() > NO_STACKING);
}

// The standard deviation that matrices are declared with. Initializers that have none of their own
// see only the multiples of it that some matrices ask for.
inline constexpr double kInitStd = 0.02;
inline double declared_init_std(const Model& model) {
  return model.has_init_std() ? model.init_std() : kInitStd;
}

// How many channels of a head RoPE turns.
inline int rotary_width(const Attention& attention) {
  return attention.has_latent() ? attention.latent().rope_dim() : attention.head_dim();
}

// How many channels a head's value has.
inline int value_width(const Attention& attention) {
  return attention.has_latent() ? attention.latent().value_dim() : attention.head_dim();
}

// Whether an FFN has a third matrix, whose product gates the second.
inline bool is_gated(Ffn kind) { return kind >= SWIGLU && kind <= REGLU; }

}  // namespace switchyard::config
