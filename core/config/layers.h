#pragma once
// Which layers of a model are MoE layers.

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Layers first_layer, first_layer + every_n_layers, ... are MoE; the others are dense.
inline bool is_moe_layer(const Model& model, int layer) {
  const Moe& moe = model.moe();
  return model.has_moe() && layer >= moe.first_layer() &&
         (layer - moe.first_layer()) % moe.every_n_layers() == 0;
}

inline int num_moe_layers(const Model& model) {
  const Moe& moe = model.moe();
  if (!model.has_moe() || moe.first_layer() >= model.num_layers()) return 0;
  return (model.num_layers() - moe.first_layer() - 1) / moe.every_n_layers() + 1;
}

}  // namespace switchyard::config
