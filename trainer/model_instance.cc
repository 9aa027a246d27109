#include "trainer/model_instance.h"

#include "core/tensor/aten.h"
#include "models/initializers.h"

namespace switchyard::trainer {
namespace {

parallel::MeshDegrees degrees(const config::Mesh& mesh) {
  parallel::MeshDegrees result;
  if (mesh.has_data()) result.data = mesh.data();
  if (mesh.has_expert()) result.expert = mesh.expert();
  return result;
}

at::Tensor copy_BS(const std::vector<int32_t>& values, const Batch& batch, at::ScalarType type) {
  // from_blob only looks; to() with copy makes a tensor of its own.
  return at::from_blob(const_cast<int32_t*>(values.data()), {batch.num_sequences, batch.length},
                       at::kInt)
      .to(type, /*non_blocking=*/false, /*copy=*/true);
}

}  // namespace

at::ScalarType compute_type(const config::RunConfig& config) {
  switch (config.runtime().compute()) {
    case config::BF16:
      return at::kBFloat16;
    case config::FP64:
      return at::kDouble;
    default:
      return at::kFloat;
  }
}

ModelInstance::ModelInstance(const config::RunConfig& config, parallel::Communicator& world)
    : mesh(world, degrees(config.mesh()),
           config.model().has_moe() ? config.model().moe().num_experts() : 0),
      model(parameters, config.model(), mesh) {
  models::choose_initializers(config.model(), parameters);
  parameters.allocate(compute_type(config));
}

models::TokenBatch to_tensors(const Batch& batch) {
  return {copy_BS(batch.tokens, batch, at::kLong), copy_BS(batch.targets, batch, at::kLong),
          copy_BS(batch.documents, batch, at::kInt)};
}

}  // namespace switchyard::trainer
