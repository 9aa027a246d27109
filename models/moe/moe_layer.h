#pragma once
// The mixture-of-experts layer: route, decide, dispatch, experts, combine.

#include <cstdint>
#include <optional>
#include <variant>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layers/expert_matrices.h"
#include "models/layers/ffn.h"
#include "models/moe/router/router.h"
#include "models/moe/rules/expert_dropout.h"
#include "models/moe/shared_expert.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"
#include "parallel/mesh.h"

namespace switchyard::models {

class MoeLayer {
 public:
  // moe_index counts routers from 0, for the statistics. The mesh must outlive the layer.
  MoeLayer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
           uint32_t layer, int64_t moe_index, const Projection& projection = {});

  // This rank's share of the rows, x [rows, d_model] -> [rows, d_model or the projection's width];
  // a token whose slots are all dropped gets zero (plus the shared expert). Tensor ranks decide
  // alike about all tokens that they see, and each sends its share.
  // **Collective** over the mesh's groups of experts and its tensor group, and over the data group
  // for global statistics; zero tokens are legal. A made `decision` is obeyed, an empty one is
  // filled. In training the auxiliary losses are attached.
  at::Tensor forward(const at::Tensor& x_TD, const StepContext& context,
                     RoutingDecision& decision) const;

 private:
  // forward() once the context says how tokens are grouped and which are padding.
  at::Tensor forward_groups(const at::Tensor& x_TD, const StepContext& context,
                            RoutingDecision& decision) const;
  // Fills an empty decision: which slots have a place, where those of this rank's `own` tokens
  // travel, and what the losses need of other ranks. Adds the counts to the context's sums.
  void decide(const Routing& routing, const Slice& own, const StepContext& context,
              RoutingDecision& decision) const;
  at::Tensor attach_losses(const at::Tensor& x_TD, const Routing& routing,
                           const StepContext& context, const RoutingDecision& decision,
                           bool record) const;
  at::Tensor run_experts(const at::Tensor& rows_RD, const StepContext& context,
                         const RoutingDecision& decision) const;

  config::Moe moe_, without_limits_;  // the second for generation
  const parallel::Mesh* mesh_;
  uint32_t layer_;
  int64_t moe_index_, num_routers_;
  Router router_;
  HeldExperts held_;  // by this rank
  std::variant<ExpertFfn, ExpertMatrices> experts_;
  std::optional<SharedExpert> shared_expert_;
};

}  // namespace switchyard::models
