#include "models/moe/rules/dead_experts.h"

#include <algorithm>

#include "core/base/errors.h"
#include "core/base/random.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

// A MoE layer's parameters that have a row for each expert.
struct LayerParameters {
  std::vector<Parameter*> router;  // [E, d_model]: its matrices
  std::vector<Parameter*> experts;
  Parameter* bias = nullptr;
};

// In the order of the routers.
std::vector<LayerParameters> layers_of(ParameterTable& table, size_t num_routers) {
  std::vector<LayerParameters> layers(num_routers);
  for (Parameter& parameter : table.parameters()) {
    if (parameter.router < 0) continue;
    LayerParameters& layer = layers.at(parameter.router);
    if (parameter.experts()) {
      layer.experts.push_back(&parameter);
    } else if (parameter.use == Use::kMatrix) {
      layer.router.push_back(&parameter);
    } else if (parameter.use == Use::kSelectionBias) {
      layer.bias = &parameter;
    }
  }
  return layers;
}

// Standard normal draws, one for each element of a row [numel / E] of the global parameter.
at::Tensor noise_for(const at::Tensor& row, const Random& random, int64_t expert) {
  at::Tensor noise = at::empty({row.numel()}, at::kDouble);
  auto* value = noise.mutable_data_ptr<double>();
  for (int64_t i = 0; i < row.numel(); ++i) value[i] = random.normal(expert * row.numel() + i);
  return noise.view(row.sizes()).to(row.scalar_type());
}

// Gives every rank of the expert group the row of expert `id`.
at::Tensor row_everywhere(const Parameter& parameter, int64_t id, parallel::Communicator& ranks) {
  const Slice held = *parameter.experts();
  at::Tensor row = held.contains(id) ? parameter.master[id - held.begin].clone()
                                     : at::empty_like(parameter.master[0]);
  ranks.broadcast(row.mutable_data_ptr(), static_cast<int64_t>(row.nbytes()),
                  static_cast<int>(id / held.size()), "busiest expert");
  return row;
}

struct Reinitializer {
  const DeadExperts& dead;
  double noise;
  parallel::Communicator& ranks;
  uint32_t stream = 0;  // one more for each parameter, so that no two share their noise

  void run(const LayerParameters& layer, const Revival& revival) {
    for (Parameter* parameter : layer.router) {
      copy(parameter->master[revival.busiest].clone(), parameter->master[revival.expert], revival);
    }
    for (Parameter* parameter : layer.experts) {
      const at::Tensor row = row_everywhere(*parameter, revival.busiest, ranks);
      const Slice held = *parameter->experts();
      if (held.contains(revival.expert)) {
        copy(row, parameter->master[revival.expert - held.begin], revival);
      } else {
        ++stream;
      }
    }
  }

 private:
  void copy(const at::Tensor& from, const at::Tensor& to, const Revival& revival) {
    const Random random(dead.seed, Stream::kDeadExpert, dead.step, stream++);
    const double deviation = noise * from.to(at::kDouble).std(/*unbiased=*/false).item<double>();
    to.copy_(from + noise_for(from, random, revival.expert) * deviation);
  }
};

}  // namespace

std::vector<Revival> revive(ParameterTable& table, const config::Moe& moe, const DeadExperts& dead,
                            const parallel::Mesh& mesh) {
  const at::NoGradGuard no_grad;
  const std::vector<LayerParameters> layers = layers_of(table, dead.ids.size());
  Reinitializer reinitializer{dead, moe.dead_expert_noise(), mesh.expert()};
  std::vector<Revival> revivals;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto busiest = std::max_element(dead.load[i].begin(), dead.load[i].end());
    for (const int64_t expert : dead.ids[i]) {
      revivals.push_back({static_cast<int64_t>(i), expert, busiest - dead.load[i].begin()});
      if (moe.dead_expert_action() == config::REINITIALIZE) {
        reinitializer.run(layers[i], revivals.back());
      } else {
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
