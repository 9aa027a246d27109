#include "models/moe/rules/dead_experts.h"

#include <algorithm>
#include <span>

#include "core/base/errors.h"
#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "models/pass/draws.h"

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

// Gives every rank of the expert group the row of expert `id`.
at::Tensor row_everywhere(const Parameter& parameter, int64_t id, parallel::Communicator& ranks) {
  if (!parameter.experts()) return parameter.master[id].clone();
  const Slice held = *parameter.experts();
  at::Tensor row = held.contains(id) ? parameter.master[id - held.begin].clone()
                                     : at::empty_like(parameter.master[0]);
  ranks.broadcast(row.mutable_data_ptr(), static_cast<int64_t>(row.nbytes()),
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
  parallel::Communicator& ranks;

  // The streams of noise from `stream` on are this revival's: one for each parameter, so that no
  // two share their noise.
  void run(const LayerParameters& layer, const Revival& revival, uint32_t stream) {
    for (Parameter* parameter : layer.rows) {
      const at::Tensor row = row_everywhere(*parameter, revival.busiest, ranks);
      const Random random(dead.seed, Stream::kDeadExpert, dead.step, stream++);
      const Slice held = parameter->experts().value_or(Slice{0, parameter->shape[0]});
      if (!held.contains(revival.expert)) continue;
      const double deviation = noise * row.to(at::kDouble).std(/*unbiased=*/false).item<double>();
      parameter->master[revival.expert - held.begin].copy_(
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
  Reinitializer reinitializer{dead, moe.dead_expert_noise(), mesh.expert()};
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
        const at::Tensor& bias = layers[i].bias->master;
        bias[expert] = bias.max() + moe.router().bias_update_rate();
      }
    }
  }
  if (!revivals.empty()) {
    for (ParameterGroup& group : table.groups()) group.refresh_value();
  }
  return revivals;
}

}  // namespace switchyard::models
