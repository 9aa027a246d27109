#include "trainer/expert_health.h"

#include <algorithm>
#include <span>

#include <fmt/format.h>

#include "models/moe/rules/dead_experts.h"
#include "models/pass/stats.h"

namespace switchyard::trainer {
namespace {

std::string describe(const models::Revival& revival, int64_t step,
                     const config::RunConfig& config) {
  const bool is_copied = config.model().moe().dead_expert_action() == config::REINITIALIZE;
  return fmt::format("step {}: expert {} of MoE layer {} had no token for {} steps; {}", step,
                     revival.expert, revival.moe_layer, config.log().dead_after_steps(),
                     is_copied
                         ? fmt::format("it is a copy of expert {} now, with noise", revival.busiest)
                         : "its selection bias is the greatest now");
}

}  // namespace

void track_experts(const std::vector<models::RoutingStats>& stats, int64_t step,
                   ExpertActivity& activity) {
  activity.resize(stats.size());
  for (size_t router = 0; router < stats.size(); ++router) {
    auto& last = activity[router];
    last.resize(stats[router].load.size());
    for (size_t e = 0; e < last.size(); ++e) {
      if (stats[router].load[e] > 0) last[e] = step;
    }
  }
}

void agree_on_activity(ExpertActivity& activity, parallel::Communicator& ranks) {
  for (auto& router : activity)
    ranks.all_reduce(std::span(router), parallel::ReduceOp::kMax, "active experts");
}

std::vector<int64_t> dead_experts(const std::vector<int64_t>& last_active, int64_t step,
                                  int64_t patience) {
  std::vector<int64_t> dead;
  for (size_t e = 0; e < last_active.size(); ++e) {
    if (step - last_active[e] >= patience) dead.push_back(static_cast<int64_t>(e));
  }
  return dead;
}

std::vector<std::string> revive_experts(const config::RunConfig& config, ModelInstance& instance,
                                        const std::vector<models::RoutingStats>& stats,
                                        int64_t step, ExpertActivity& activity) {
  const config::Moe& moe = config.model().moe();
  if (moe.dead_expert_action() <= config::LEAVE || stats.empty()) return {};
  parallel::Communicator& ranks = instance.mesh.data();
  agree_on_activity(activity, ranks);
  models::DeadExperts dead;
  for (const auto& last : activity)
    dead.ids.push_back(dead_experts(last, step, config.log().dead_after_steps()));
  if (std::ranges::all_of(dead.ids, [](const auto& ids) { return ids.empty(); })) return {};
  dead.load = models::total_load(stats, moe.num_experts(), ranks);
  dead.seed = config.seed();
  dead.step = step;
  std::vector<std::string> lines;
  for (const models::Revival& r : models::revive(instance.parameters, moe, dead, instance.mesh)) {
    activity[r.moe_layer][r.expert] = step;
    lines.push_back(describe(r, step, config));
  }
  return lines;
}

}  // namespace switchyard::trainer
