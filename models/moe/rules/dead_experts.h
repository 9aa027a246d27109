#pragma once
// What to do about experts that no token reaches any more.

#include <cstdint>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "parallel/mesh.h"

namespace switchyard::models {

struct Revival {
  int64_t moe_layer, expert, busiest;
};

struct DeadExperts {
  std::vector<std::vector<int64_t>> ids;   // per MoE layer
  std::vector<std::vector<int64_t>> load;  // [MoE layer][expert] slots of the step over all ranks
  uint64_t seed = 0;
  int64_t step = 0;
};

// **Collective** over the mesh; all ranks pass the same. By moe.dead_expert_action:
//   REINITIALIZE  the expert's matrices and its rows of the router become those of the layer's
//                 busiest expert, each plus dead_expert_noise * (its standard deviation) * N(0, 1),
//                 keyed by (seed, step, parameter, element). Its optimizer moments stay: they have
//                 decayed, and the first gradients replace them.
//   RAISE_BIAS    its selection bias becomes the layer's greatest plus bias_update_rate.
// Returns what was done, on whichever stage, in order; the parameters' values follow their masters.
std::vector<Revival> revive(ParameterTable& table, const config::Moe& moe, const DeadExperts& dead,
                            const parallel::Mesh& mesh);

}  // namespace switchyard::models
