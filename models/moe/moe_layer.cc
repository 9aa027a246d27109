#include "models/moe/moe_layer.h"

#include <ATen/record_function.h>
#include <c10/core/GradMode.h>

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "models/moe/assignment.h"
#include "models/moe/expert_dropout.h"
#include "models/moe/losses.h"

namespace switchyard::models {
namespace {

// Rows of one expert are padded to a multiple of this: oneDNN builds and caches a kernel for every
// new row count.
constexpr int64_t kRowBucket = 32;

// Which slots may ask for a place; empty: all.
std::vector<uint8_t> admit(const at::Tensor& weight_TK, const config::Router& router,
                           const StepContext& context, uint32_t layer) {
  const int64_t tokens = weight_TK.size(0), choices = weight_TK.size(1);
  std::vector<uint8_t> admitted;
  if (context.training && router.second_choice() == config::AT_RANDOM) {
    const Random random(context.seed, Stream::kSecondExpert, context.step, layer);
    std::vector<float> uniform(tokens);
    for (int64_t t = 0; t < tokens; ++t) uniform[t] = random.uniform(context.first_token + t);
    admitted = admit_second_choice(weight_TK, router.second_choice_threshold(), uniform);
  }
  if (const int64_t real = context.real_tokens(tokens); real < tokens) {
    admitted.resize(tokens * choices, 1);
    std::fill(admitted.begin() + real * choices, admitted.end(), 0);
  }
  return admitted;
}

Slice held_experts(const config::Moe& moe, const parallel::Mesh& mesh) {
  const int64_t each = moe.num_experts() / mesh.expert().size();
  return {mesh.expert().rank() * each, (mesh.expert().rank() + 1) * each};
}

RoutingStats stats_of(const Routing& routing, const Assignment& assignment, int64_t num_experts,
                      int64_t real_tokens) {
  const at::Tensor expert_TK = routing.expert_TK.slice(0, 0, real_tokens);
  const at::Tensor load =
      count_load(expert_TK, num_experts, std::max<int64_t>(real_tokens, 1), config::ALL_CHOICES);
  const at::Tensor p = routing.probability_TE.detach().slice(0, 0, real_tokens);
  RoutingStats stats;
  stats.load.assign(load.const_data_ptr<int64_t>(), load.const_data_ptr<int64_t>() + load.numel());
  stats.load.resize(num_experts);
  stats.tokens = real_tokens;
  stats.dropped = assignment.num_dropped;
  stats.slots = static_cast<int64_t>(assignment.order.slot.size()) + assignment.num_dropped;
  stats.router_entropy = -at::xlogy(p, p).sum().item<double>();
  return stats;
}

}  // namespace

MoeLayer::MoeLayer(const Scope& scope, const config::Model& model, const parallel::Mesh& mesh,
                   uint32_t layer, int64_t moe_index)
    : moe_(model.moe()),
      mesh_(&mesh),
      layer_(layer),
      moe_index_(moe_index),
      router_(scope / "router", moe_, model.d_model(), layer, model.init_std()),
      held_(held_experts(moe_, mesh)),
      experts_(scope / "experts", model, held_) {
  if (moe_.shared_expert().count() > 0) shared_expert_.emplace(scope / "shared_expert", model);
}

at::Tensor MoeLayer::forward(const at::Tensor& x_TD, const StepContext& context,
                             RoutingDecision& decision) const {
  const bool first_run = !decision.is_made();
  const Routing routing = router_.route(x_TD, context, decision.expert_TK);
  if (first_run) decide(routing, context, decision);
  const at::Tensor rows_RD = parallel::dispatch(x_TD, decision.plan);
  const at::Tensor mask_RF =
      expert_dropout_mask(moe_, context, layer_, decision.plan, held_.begin, x_TD.scalar_type());
  const at::Tensor out_RD = experts_.forward(rows_RD, decision.plan->offsets, mask_RF);
  at::Tensor y_TD = parallel::combine(out_RD, routing.weight_TK, decision.plan);
  if (shared_expert_) y_TD = y_TD + shared_expert_->forward(x_TD);
  return attach_losses(y_TD, routing, context, decision, first_run);
}

void MoeLayer::decide(const Routing& routing, const StepContext& context,
                      RoutingDecision& decision) const {
  RECORD_USER_SCOPE("sy::assign");
  const int64_t group = context.group_tokens;
  const int64_t capacity =
      capacity_of(moe_.capacity(), context.training, group, moe_.top_k(), moe_.num_experts());
  const Assignment assignment =
      assign(routing.expert_TK, routing.weight_TK,
             admit(routing.weight_TK, moe_.router(), context, layer_),
             {moe_.capacity().policy(), moe_.num_experts(), group, capacity});

  decision.expert_TK = routing.expert_TK;
  if (context.training) {
    decision.load_share = load_share(routing.expert_TK, moe_, group, context, mesh_->data());
  }
  decision.plan = parallel::make_plan(assignment.order, mesh_->expert(), kRowBucket);
  if (context.stats) {
    const int64_t real_tokens = context.real_tokens(routing.expert_TK.size(0));
    (*context.stats)[moe_index_] += stats_of(routing, assignment, moe_.num_experts(), real_tokens);
  }
}

at::Tensor MoeLayer::attach_losses(const at::Tensor& x_TD, const Routing& routing,
                                   const StepContext& context, const RoutingDecision& decision,
                                   bool record) const {
  if (!context.training) return x_TD;
  RECORD_USER_SCOPE("sy::router");
  const at::Tensor balance = balance_loss(routing.probability_TE, decision.load_share, context);
  const at::Tensor z = router_z_loss(routing.logits_TE, context);
  if (record && context.stats) {
    (*context.stats)[moe_index_].balance_loss += balance.item<double>();
    (*context.stats)[moe_index_].z_loss += z.item<double>();
  }
  if (!at::GradMode::is_enabled()) return x_TD;
  return attach_loss(x_TD,
                     balance * moe_.balance_loss().coefficient() + z * moe_.z_loss_coefficient());
}

}  // namespace switchyard::models
