#include "trainer/model_instance.h"

#include <set>
#include <type_traits>

#include "core/config/mesh_shape.h"
#include "core/tensor/aten.h"
#include "models/inspect/stages.h"
#include "optim/optimizer.h"
#include "parallel/sharding.h"
#include "trainer/checkpoint/checkpoint.h"

namespace switchyard::trainer {
namespace {

// [sequences, rest] of `type`.
template <typename T>
at::Tensor copy(const std::vector<T>& values, int64_t sequences, at::ScalarType type) {
  constexpr at::ScalarType kStored = std::is_same_v<T, float> ? at::kFloat : at::kInt;
  // from_blob only looks; to() with copy makes a tensor of its own.
  return at::from_blob(const_cast<T*>(values.data()),
                       {sequences, static_cast<int64_t>(values.size()) / sequences}, kStored)
      .to(type, /*non_blocking=*/false, /*copy=*/true);
}

Slice held_layers(const config::RunConfig& config, const parallel::Mesh& mesh) {
  const Place stage = mesh.pipeline().place();
  return models::stage_layers(config, stage.size)[stage.index];
}

// The names of the model's parameters that are not in `own`.
std::set<std::string, std::less<>> held_elsewhere(const config::Model& model,
                                                  const parallel::Mesh& mesh,
                                                  const ParameterTable& own) {
  std::set<std::string, std::less<>> names;
  ParameterTable table;
  const models::Model whole(Scope(table), model, mesh);
  for (const Parameter& parameter : table.parameters()) names.insert(parameter.name);
  for (const Parameter& parameter : own.parameters()) names.erase(parameter.name);
  return names;
}

ParameterTable& allocate(const config::RunConfig& config, const parallel::Mesh& mesh,
                         ParameterTable& parameters) {
  if (mesh.pipeline().place().size > 1)
    parameters.set_elsewhere(held_elsewhere(config.model(), mesh, parameters));
  optim::choose_weight_decay(config.optimizer(), parameters);
  parallel::choose_dealing(config.optimizer(), parameters);
  parameters.allocate(models::compute_type(config));
  return parameters;
}

}  // namespace

ModelInstance::ModelInstance(const config::RunConfig& config, parallel::Communicator& world)
    : mesh(world, config::mesh_shape(config.mesh(), config.model(), world.size())),
      model(Scope(parameters, mesh.layout()), config.model(), mesh, held_layers(config, mesh)),
      reduction(allocate(config, mesh, parameters), mesh) {}

void fill_first_weights(const config::RunConfig& config, ParameterTable& parameters) {
  if (!config.has_init_from()) return parameters.initialize(config.seed());
  CheckpointReader(config.init_from(), CheckpointReader::Contents::kWeights)
      .load_weights(parameters);
}

int64_t group_sequences(const config::Model& model) {
  return model.has_moe() ? model.moe().capacity().group_sequences() : 1;
}

models::TokenBatch to_tensors(const Batch& batch) {
  const int64_t sequences = batch.num_sequences;
  models::TokenBatch tensors{copy(batch.tokens, sequences, at::kLong),
                             copy(batch.targets, sequences, at::kLong),
                             copy(batch.documents, sequences, at::kInt)};
  if (batch.source_length > 0) {
    tensors.source_BM = copy(batch.source, sequences, at::kLong);
    tensors.source_counts_B = copy(batch.source_counts, sequences, at::kLong).flatten();
  }
  if (batch.num_features > 0) tensors.features_BD = copy(batch.features, sequences, at::kFloat);
  return tensors;
}

}  // namespace switchyard::trainer
