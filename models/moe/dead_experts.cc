#include "models/moe/dead_experts.h"

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

// In the table's order, which is that of the MoE layers.
std::vector<LayerParameters> layers_of(ParameterTable& table) {
  std::vector<LayerParameters> layers;
  std::string prefix;
  for (Parameter& parameter : table.parameters()) {
    const std::string& name = parameter.name;
    const size_t at = std::min(name.find(".router."), name.find(".experts."));
    if (at == std::string::npos) continue;
    if (layers.empty() || name.substr(0, at) != prefix) layers.emplace_back();
    prefix = name.substr(0, at);
    const std::string own = name.substr(at + 1);
    if (parameter.experts) layers.back().experts.push_back(&parameter);
    if (own == "router.weight" || own == "router.noise_weight") {
      layers.back().router.push_back(&parameter);
    }
    if (own == "router.selection_bias") layers.back().bias = &parameter;
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
  const int64_t each = parameter.experts->end - parameter.experts->begin;
  const bool held = id >= parameter.experts->begin && id < parameter.experts->end;
  at::Tensor row = held ? parameter.master[id - parameter.experts->begin].clone()
                        : at::empty_like(parameter.master[0]);
  ranks.broadcast(row.mutable_data_ptr(), static_cast<int64_t>(row.nbytes()),
                  static_cast<int>(id / each), "busiest expert");
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
      const int64_t local = revival.expert - parameter->experts->begin;
      const bool held = local >= 0 && revival.expert < parameter->experts->end;
      if (held) copy(row, parameter->master[local], revival);
      stream += !held;
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
  const std::vector<LayerParameters> layers = layers_of(table);
  SY_CHECK(layers.size() == dead.ids.size(), "parameters of {} MoE layers, but health of {}",
           layers.size(), dead.ids.size());
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
