#include "models/moe/moe_layer.h"

#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"
#include "models/moe/losses/balance.h"
#include "models/moe/losses/losses.h"
#include "models/moe/placement/capacity.h"
#include "models/moe/placement/placement.h"
#include "models/moe/router/draws.h"
#include "models/moe/rules/token_groups.h"

namespace switchyard::models {
namespace {

// Rows of one expert are padded to a multiple of this: oneDNN builds and caches a kernel for every
// new row count.
constexpr int64_t kRowBucket = 32;

std::variant<ExpertFfn, ExpertMatrices> make_experts(const Scope& scope, const config::Model& model,
                                                     const Projection& projection) {
  if (projection.width > 0) return ExpertMatrices(scope, model, projection);
  if (model.moe().hidden_layers() > 1) return ExpertMatrices(scope, model);
  return ExpertFfn(scope, model);
}

// Projections belong to the attention that they are for.
Scope role_of(const Scope& scope, Role role, const Projection& projection) {
  return projection.width > 0 ? scope : scope.as(role);
}

}  // namespace

MoeLayer::MoeLayer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
                   uint32_t layer, int64_t moe_index, const Projection& projection)
    : moe_(model.moe()),
      without_limits_(without_limits(moe_)),
      mesh_(&mesh),
      layer_(layer),
      moe_index_(moe_index),
      num_routers_(config::num_routers(model)),
      router_(role_of(scope / "router", Role::kRouter, projection).of_router(moe_index), moe_,
              model.d_model(), layer),
      held_{share_of(moe_.num_experts(), scope.layout()[Axis::kExpert]),
            share_of(moe_.d_ff(), scope.layout()[Axis::kExpertTensor])},
      experts_(
          make_experts(role_of(scope / "experts", Role::kExpert, projection).of_router(moe_index),
                       model, projection)) {
  const bool has_shared = projection.width == 0 && moe_.shared_expert().count() > 0;
  if (has_shared) shared_expert_.emplace((scope / "shared_expert").as(Role::kSharedExpert), model);
}

at::Tensor MoeLayer::forward(const at::Tensor& x_TD, const StepContext& context,
                             RoutingDecision& decision) const {
  return moe_.capacity().max_group_tokens() > 0
             ? forward_groups(x_TD, in_groups(x_TD, context, moe_, *mesh_), decision)
             : forward_groups(x_TD, context, decision);
}

at::Tensor MoeLayer::forward_groups(const at::Tensor& x_TD, const StepContext& context,
                                    RoutingDecision& decision) const {
  const bool first_run = !decision.is_made();
  at::Tensor chosen_TK = decision.expert_TK;
  if (first_run && context.replay) chosen_TK = context.replay->at(moe_index_);
  const Routing routing = router_.route(x_TD, context, chosen_TK);
  const Slice own{context.rows.first(), context.rows.first() + x_TD.size(0)};
  if (first_run) decide(routing, own, context, decision);
  const at::Tensor rows_RD = parallel::dispatch(x_TD, decision.plan);
  const at::Tensor out_RD = run_experts(rows_RD, context, decision);
  const at::Tensor weight_TK =
      weights_after_drops(routing.weight_TK, decision.kept_TK, moe_.router())
          .narrow(0, own.begin, own.size());
  at::Tensor y_TD = parallel::combine(out_RD, weight_TK, decision.plan);
  if (shared_expert_) y_TD = y_TD + shared_expert_->forward(x_TD, context.rows);
  return attach_losses(y_TD, routing, context, decision, first_run);
}

at::Tensor MoeLayer::run_experts(const at::Tensor& rows_RD, const StepContext& context,
                                 const RoutingDecision& decision) const {
  const std::vector<int64_t>& offsets = decision.plan->offsets;
  if (const auto* matrices = std::get_if<ExpertMatrices>(&experts_)) {
    return matrices->forward(rows_RD, offsets, decision.plan->sharers);
  }
  const at::Tensor mask_RF = expert_dropout_mask(moe_, context, layer_, decision.plan, held_);
  return std::get<ExpertFfn>(experts_).forward(rows_RD, offsets, mask_RF);
}

void MoeLayer::decide(const Routing& routing, const Slice& own, const StepContext& context,
                      RoutingDecision& decision) const {
  const ProfiledPart part("sy::router");
  const int64_t tokens = routing.expert_TK.size(0);
  const Placement placement =
      place_slots(routing, context.generating ? without_limits_ : moe_, context,
                  draw_for_assignment(moe_, tokens, context, layer_));
  decision.expert_TK = routing.expert_TK;
  decision.enters_T1 = placement.enters_T1;
  decision.kept_TK = kept_slots(placement, moe_, routing.weight_TK.scalar_type());
  if (context.training) {
    LoadTotals* totals =
        context.routing.load_totals ? &(*context.routing.load_totals)[moe_index_] : nullptr;
    decide_losses(routing, moe_, context, mesh_->data(), totals, decision);
  }
  // No two ranks send the same row, though all that see a token know its slots.
  const parallel::SlotOrder& order = placement.assignment.order;
  decision.plan = parallel::make_plan(own.size() < tokens ? parallel::slots_of(own, order) : order,
                                      mesh_->expert(), kRowBucket, &mesh_->expert_tensor());
  if (context.routing.sums) {
    (*context.routing.sums)[moe_index_] += sums_of(routing, placement, moe_, context);
  }
  if (context.routing.slots) {
    context.routing.slots->push_back({moe_index_, context.tokens.global(0), routing.expert_TK,
                                      placement.assignment.position_TK.ge(0)});
  }
}

at::Tensor MoeLayer::attach_losses(const at::Tensor& x_TD, const Routing& routing,
                                   const StepContext& context, const RoutingDecision& decision,
                                   bool record) const {
  if (!context.training) return x_TD;
  const ProfiledPart part("sy::router");
  std::vector<RoutingSums> unrecorded(num_routers_);
  std::vector<RoutingSums>& sums =
      record && context.routing.sums ? *context.routing.sums : unrecorded;
  const at::Tensor losses =
      router_losses(routing, moe_, context, decision, mesh_->data().size(), sums[moe_index_]);
  const bool sum = moe_.layer_aggregation() <= config::SUM_OVER_LAYERS;
  const double share = sum ? 1.0 : 1.0 / static_cast<double>(num_routers_);
  const at::Tensor y_TD = attach_loss(x_TD, losses * share);
  const std::shared_ptr<PooledBalance>& pool = context.routing.pool;
  if (!pool) return y_TD;
  const at::Tensor& slope_GE = decision.balance.expert_GE;
  const at::Tensor sum_GE = group_sums(routing.probability_TE, slope_GE.size(0), context);
  if (record) pool->add(slope_GE, sum_GE);
  if (record && pool->is_complete()) {  // one value, reported for every layer
    for (RoutingSums& router : sums) router.add(RouterLoss::kBalance, pool->value());
  }
  return attach_pooled(y_TD, sum_GE, pool,
                       router_coefficients(moe_, context)[RouterLoss::kBalance]);
}

}  // namespace switchyard::models
