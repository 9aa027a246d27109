#pragma once
// How the matrices of layers start, unless a rule for all of a model's matrices replaces it
// (models/initializers.h).

#include <cmath>

#include "core/config/layers.h"
#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::models {

// Normal, with the standard deviation that the config declares.
inline Init normal_init(const config::Model& model) {
  return {Init::kNormal, config::declared_init_std(model)};
}

// For a matrix whose output is added to the residual stream: divided by sqrt(2 num_layers), which
// keeps the stream's variance independent of depth (GPT-2), where the config asks for it.
inline Init residual_init(const config::Model& model) {
  Init init = normal_init(model);
  if (model.scale_init_by_depth()) init.value /= std::sqrt(2.0 * model.num_layers());
  return init;
}

}  // namespace switchyard::models
