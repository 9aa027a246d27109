#pragma once
// A model on its mesh, with its parameters allocated.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/data/batch.h"
#include "core/tensor/parameter.h"
#include "models/model.h"
#include "parallel/gradients.h"
#include "parallel/mesh.h"

namespace switchyard::trainer {

// The parts refer to each other, so the whole stays where it is made.
class ModelInstance {
 public:
  // **Collective** over `world`, which must outlive it. Parameters are allocated but not filled:
  // initialize them or load a checkpoint.
  ModelInstance(const config::RunConfig& config, parallel::Communicator& world);
  ModelInstance(const ModelInstance&) = delete;
  ModelInstance& operator=(const ModelInstance&) = delete;

  parallel::Mesh mesh;
  ParameterTable parameters;
  models::Model model;
  parallel::GradientReduction reduction;
};

// Fills the weights that a new run begins with: drawn, or those that the config's init_from names.
// Throws as CheckpointReader does.
void fill_first_weights(const config::RunConfig& config, ParameterTable& parameters);

// Sequences whose tokens are routed together: 1 without experts.
int64_t group_sequences(const config::Model& model);

// A loader's batch as tensors.
models::TokenBatch to_tensors(const Batch& batch);

}  // namespace switchyard::trainer
