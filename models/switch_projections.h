#pragma once
// Queries, keys and values as mixtures of experts (Fedus et al., 2021, appendix A): three layers of
// one-matrix experts, each with a router of its own.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/moe/moe_layer.h"
#include "parallel/mesh.h"

namespace switchyard::models {

class SwitchProjections {
 public:
  static constexpr int64_t kCount = 3;

  // Registers <scope>.query, .key and .value. Their routers are number moe_index and the next two;
  // random streams are keyed by `layer` and the projection.
  SwitchProjections(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
                    uint32_t layer, int64_t moe_index);

  // x [T, D] -> [T, (H + 2 KV) d]: queries, keys, values; zero where a token found no place.
  // **Collective** and `decision` as MoeLayer::forward; the three decisions lie in its projections.
  at::Tensor forward(const at::Tensor& x_TD, const StepContext& context,
                     RoutingDecision& decision) const;

 private:
  std::vector<MoeLayer> layers_;
};

}  // namespace switchyard::models
