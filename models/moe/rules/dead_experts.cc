#include "models/moe/rules/dead_experts.h"

#include <algorithm>
#include <span>

#include "core/base/errors.h"
#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "models/pass/draws.h"
#include "parallel/sharding.h"

namespace switchyard::models {
namespace {

// A MoE layer's parameters that dead experts have a share in.
struct LayerParameters {
  std::vector<Parameter*> rows;  // the matrices of the router, then the experts: a row for each
  Parameter* bias = nullptr;
};

// The parameters of each MoE layer, in the order of the routers.
std::vector<LayerParameters> layers_of(ParameterTable& table, size_t num_routers) {
  std::vector<LayerParameters> layers(num_routers);
  for (Parameter& parameter : table.parameters()) {
    if (parameter.router < 0) continue;
    LayerParameters& layer = layers.at(parameter.router);
    if (parameter.experts() || parameter.use == Use::kMatrix) layer.rows.push_back(&parameter);
    if (parameter.use == Use::kSelectionBias) layer.bias = &parameter;
  }
  return layers;
}

// Standard normal draws, one for each element of a row [numel / E] of the global parameter.
at::Tensor noise_for(const at::Tensor& row, const Random& random, int64_t expert) {
  const int64_t count = row.numel();
  return fill_rows(1, count, at::kDouble,
                   [&](int64_t, int64_t i) { return random.normal(expert * count + i); })
      .view(row.sizes())
      .to(row.options());
}

// The experts whose rows this rank holds.
Slice held_rows(const Parameter& parameter) {
  return parameter.experts().value_or(Slice{0, parameter.shape[0]});
}

// The local elements of the row of expert `id`, which this rank holds.
Slice elements_of_row(const Parameter& parameter, int64_t id) {
  const Slice held = held_rows(parameter);
  const int64_t row = parameter.local_count() / held.size();
  return {(id - held.begin) * row, (id - held.begin + 1) * row};
}

// Gives every rank of the expert group the master's row of expert `id`, flat.
at::Tensor row_everywhere(const Parameter& parameter, int64_t id, const parallel::Mesh& mesh) {
  const Slice held = held_rows(parameter);
  const at::ScalarType exact = exact_type(parameter.value.scalar_type());
  const at::Tensor row =
      held.contains(id)
          ? parallel::gather_owned(parameter, parameter.owned, elements_of_row(parameter, id), mesh)
          : at::empty({parameter.local_count() / held.size()}, exact);
  if (parameter.experts())
    mesh.expert().broadcast(row.mutable_data_ptr(), static_cast<int64_t>(row.nbytes()),
                            static_cast<int>(id / held.size()), "busiest expert");
  return row;
}

// How many parameters with a row for each expert each layer has, also those on other stages.
std::vector<int64_t> count_rows(const std::vector<LayerParameters>& layers,
                                parallel::Communicator& stages) {
  std::vector<int64_t> counts;
  for (const LayerParameters& layer : layers) counts.push_back(std::ssize(layer.rows));
  if (stages.size() > 1)
    stages.all_reduce(std::span(counts), parallel::ReduceOp::kMax, "parameters of the experts");
  return counts;
}

struct Reinitializer {
  const DeadExperts& dead;
  double noise;
  const parallel::Mesh& mesh;

  // The streams of noise from `stream` on are this revival's: one for each parameter, so that no
  // two share their noise.
  void run(const LayerParameters& layer, const Revival& revival, uint32_t stream) {
    for (Parameter* parameter : layer.rows) {
      const at::Tensor row = row_everywhere(*parameter, revival.busiest, mesh);
      const Random random(dead.seed, Stream::kDeadExpert, dead.step, stream++);
      if (!held_rows(*parameter).contains(revival.expert)) continue;
      const double deviation = noise * row.to(at::kDouble).std(/*unbiased=*/false).item<double>();
      parameter->store(elements_of_row(*parameter, revival.expert),
                       row + noise_for(row, random, revival.expert) * deviation);
    }
  }
};

}  // namespace

std::vector<Revival> revive(ParameterTable& table, const config::Moe& moe, const DeadExperts& dead,
                            const parallel::Mesh& mesh) {
  const at::NoGradGuard no_grad;
  const std::vector<LayerParameters> layers = layers_of(table, dead.ids.size());
  const std::vector<int64_t> rows = count_rows(layers, mesh.pipeline().stages());
  Reinitializer reinitializer{dead, moe.dead_expert_noise(), mesh};
  uint32_t stream = 0;
  std::vector<Revival> revivals;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto busiest = std::max_element(dead.load[i].begin(), dead.load[i].end());
    for (const int64_t expert : dead.ids[i]) {
      revivals.push_back({static_cast<int64_t>(i), expert, busiest - dead.load[i].begin()});
      if (moe.dead_expert_action() == config::REINITIALIZE) {
        reinitializer.run(layers[i], revivals.back(), stream);
        stream += static_cast<uint32_t>(rows[i]);
      } else if (layers[i].bias) {  // else another stage has it
        Parameter& bias = *layers[i].bias;
        bias.store({expert, expert + 1}, bias.master.max() + moe.router().bias_update_rate());
      }
    }
  }
  return revivals;
}

}  // namespace switchyard::models
