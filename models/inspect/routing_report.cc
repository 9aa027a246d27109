#include "models/inspect/routing_report.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "core/tensor/aten.h"
#include "models/moe/losses/losses.h"
#include "models/moe/placement/capacity.h"
#include "models/moe/placement/placement.h"
#include "models/moe/router/selection.h"
#include "parallel/single.h"

namespace switchyard::models {
namespace {

using Json = nlohmann::ordered_json;

// Fills in the draws that were not given.
void complete_draws(const config::Moe& moe, const StepContext& context, ReportInput& input) {
  const at::Tensor& logits = input.router.logits_TE;
  const int64_t tokens = logits.size(0), groups = moe.router().num_groups();
  RouterDraws noise = draw_for_router(moe, tokens, context, 0, logits.scalar_type());
  if (moe.router().hierarchy() > config::ONE_LEVEL) {
    const at::Tensor all_TA = at::arange(groups, at::kLong).expand({tokens, groups}).contiguous();
    noise.normal_TE = draw_within_groups(moe, all_TA, context, 0, logits.scalar_type());
  }
  const AssignDraws lots = draw_for_assignment(moe, tokens, context, 0);
  if (!context.training) {
    input.noise = {};
    input.lots = {};
    return;
  }
  for (at::Tensor RouterDraws::*draw :
       {&RouterDraws::normal_TE, &RouterDraws::gumbel_TE, &RouterDraws::group_normal_TA}) {
    if (!(input.noise.*draw).defined()) input.noise.*draw = noise.*draw;
  }
  for (at::Tensor AssignDraws::*draw :
       {&AssignDraws::uniform_TN, &AssignDraws::lot_TK, &AssignDraws::exempt_T1}) {
    if (!(input.lots.*draw).defined()) input.lots.*draw = lots.*draw;
  }
}

// Why a slot has no place.
const char* reason(const config::Moe& moe, const Placement& placement, int64_t slot,
                   int64_t choices) {
  const at::Tensor& admitted_TK = placement.admitted_TK;
  if (admitted_TK.defined() && !admitted_TK.const_data_ptr<bool>()[slot]) return "rejected";
  if (experts_choose(moe)) return "not chosen";
  if (moe.capacity().policy() == config::DEVICE_BUDGET) return "over budget";
  const int64_t* token =
      placement.assignment.position_TK.const_data_ptr<int64_t>() + slot / choices * choices;
  const bool has_place =
      std::any_of(token, token + slot % choices, [](int64_t p) { return p >= 0; });
  return moe.capacity().policy() == config::NEXT_FREE && has_place ? "not needed" : "no room";
}

Json tokens_of(const Routing& routing, const config::Moe& moe, const Placement& placement,
               const at::Tensor& weight_TK) {
  const int64_t tokens = routing.expert_TK.size(0), choices = routing.expert_TK.size(1);
  const int64_t* expert = routing.expert_TK.const_data_ptr<int64_t>();
  const at::Tensor weights = weight_TK.to(at::kDouble).contiguous();
  const double* weight = weights.const_data_ptr<double>();
  const int64_t* position = placement.assignment.position_TK.const_data_ptr<int64_t>();
  Json list = Json::array();
  for (int64_t t = 0; t < tokens; ++t) {
    Json row = Json::array();
    for (int64_t n = t * choices; n < (t + 1) * choices; ++n) {
      Json choice = {{"expert", expert[n]}, {"weight", weight[n]}};
      if (position[n] >= 0) {
        choice["slot"] = position[n];
      } else {
        choice["without_slot"] = reason(moe, placement, n, choices);
      }
      row.push_back(std::move(choice));
    }
    list.push_back(std::move(row));
  }
  return list;
}

Json losses_of(const Routing& routing, const config::Moe& moe, const StepContext& context,
               const at::Tensor& kept_TK, const at::Tensor& enters_T1) {
  const auto world = parallel::make_single();
  RoutingDecision decision;
  decision.kept_TK = kept_TK;
  decision.enters_T1 = enters_T1;
  decide_losses(routing, moe, context, *world, /*totals=*/nullptr, decision);
  RoutingSums sums;
  router_losses(routing, moe, context, decision, 1, sums);
  const RoutingStats values = numbers_of({sums})[0];
  Json losses;
  for (const RouterLossKind& kind : router_loss_kinds()) {
    if (kind.is_always_reported || kind.coefficient(moe) > 0)
      losses[kind.name] = values.losses[kind.loss];
  }
  return losses;
}

std::string as_text(const Json& report) {
  std::string text = "token  choices: expert weight slot\n";
  for (size_t t = 0; t < report["tokens"].size(); ++t) {
    text += fmt::format("{:>5} ", t);
    for (const Json& choice : report["tokens"][t]) {
      text += fmt::format(
          " {:>4} {:.6f} {:<11}", choice["expert"].get<int64_t>(), choice["weight"].get<double>(),
          choice.contains("slot") ? fmt::format("[{}]", choice["slot"].get<int64_t>())
                                  : choice["without_slot"].get<std::string>());
    }
    text += "\n";
  }
  text += fmt::format("load       {}\ncapacity   {}\ndropped    {}\nrejected   {}\n",
                      report["load"].dump(), report["capacity"].dump(), report["dropped"].dump(),
                      report["rejected"].dump());
  for (const auto& [name, value] : report["losses"].items()) {
    text += fmt::format("{:<14} {:.6f}\n", name + " loss", value.get<double>());
  }
  return text;
}

}  // namespace

std::string routing_report(const config::Moe& moe, ReportInput input, uint64_t seed, bool json) {
  const at::NoGradGuard no_grad;
  StepContext& context = input.router.context;
  context.training = input.training;
  context.key.seed = seed;
  context.count.in_step = context.count.in_micro_batch = input.router.logits_TE.size(0);
  complete_draws(moe, context, input);
  const Routing routing = route_logits(input.router, moe, input.noise);
  const Placement placement = place_slots(routing, moe, context, input.lots);
  const RoutingStats stats = numbers_of({sums_of(routing, placement, moe, context)})[0];
  const at::Tensor kept_TK = kept_slots(placement, moe, routing.weight_TK.scalar_type());
  const at::Tensor weight_TK = weights_after_drops(routing.weight_TK, kept_TK, moe.router());
  Json report;
  report["tokens"] = tokens_of(routing, moe, placement, weight_TK);
  report["load"] = stats.load;
  const auto policy = policy_of(moe, input.training);
  report["capacity"] = nullptr;
  if (policy == config::DEVICE_BUDGET) {
    report["capacity"] = device_budget(moe, context.group_tokens);
  } else if (policy != config::NO_DROP &&
             moe.router().hierarchy() == config::TWO_LEVEL_BY_IMPORTANCE) {
    const int64_t rows = capacity_of_group(moe, input.training, context.group_tokens);
    report["capacity"] = {{"group", rows}, {"expert", capacity_within_group(moe, rows)}};
  } else if (policy != config::NO_DROP) {
    report["capacity"] = capacity_of(moe, input.training, context.group_tokens);
  }
  report["dropped"] = stats.dropped;
  report["rejected"] = stats.rejected;
  report["losses"] = losses_of(routing, moe, context, kept_TK, placement.enters_T1);
  return json ? report.dump(2) + "\n" : as_text(report);
}

}  // namespace switchyard::models
