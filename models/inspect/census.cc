#include "models/inspect/census.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/tensor/parameter.h"
#include "models/model.h"
#include "parallel/mesh.h"
#include "parallel/sharding.h"
#include "parallel/single.h"

namespace switchyard::models {
namespace {

// The names of the components, in the order of Role, in which they are listed.
constexpr std::array kComponents = {"embedding", "attention",     "lstm",      "router",
                                    "experts",   "shared_expert", "dense_ffn", "norms",
                                    "output",    "gate",          "other"};
static_assert(kComponents.size() == static_cast<size_t>(Role::kOther) + 1);

// The parameters of the layers `held` that a rank at `layout` holds.
ParameterTable parameters_of(const config::Model& model, const Slice& held,
                             const Layout& layout = {}) {
  ParameterTable table;
  const auto world = parallel::make_single();
  const parallel::Mesh mesh(*world, MeshShape());
  const Model part(Scope(table, layout), model, mesh, held);
  return table;
}

// That of the stage's first rank.
Layout layout_of(int stage, const MeshShape& mesh) {
  return mesh.layout(stage * mesh.ranks() / mesh.size(Axis::kPipeline));
}

int64_t count_of(const Parameter& parameter) {
  constexpr int64_t kMost = int64_t{1} << 43;  // sums over a model, in bytes, stay below 2^63
  int64_t count = 1;
  for (const int64_t size : parameter.shape) {
    if (__builtin_mul_overflow(count, size, &count) || count > kMost)
      throw ConfigError(fmt::format(
          "{} would have {} numbers, and this program counts to 2^43 in one parameter; lower the "
          "model's sizes",
          parameter.name, fmt::join(parameter.shape, " x ")));
  }
  return count;
}

// A mean for each row and each column, if both sides are long enough; else one for each number.
int64_t factored_count(const Parameter& parameter, int64_t least_dim) {
  const std::vector<int64_t>& shape = parameter.shape;
  const size_t leading = parameter.experts() ? 1 : 0;
  if (shape.size() - leading != 2) return count_of(parameter);
  const int64_t rows = shape[leading], columns = shape[leading + 1];
  if (rows < least_dim || columns < least_dim) return count_of(parameter);
  return (rows + columns) * (parameter.experts() ? shape[0] : 1);
}

// Numbers that the optimizer keeps of a parameter; optim/ has the rules.
int64_t moment_count(const Parameter& parameter, const config::Optimizer& optimizer) {
  switch (optimizer.kind()) {
    case config::SGD:
      return optimizer.momentum() > 0 ? count_of(parameter) : 0;
    case config::ADAFACTOR:
      return factored_count(parameter, optimizer.adafactor().least_factored_dim());
    case config::ADAM_FACTORED_EXPERTS:
      return parameter.experts() ? factored_count(parameter, 1) : 2 * count_of(parameter);
    default:
      return 2 * count_of(parameter);
  }
}

// Numbers that a rank keeps of a group: master weights, and what the optimizer has beside them.
struct Owned {
  int64_t masters = 0, moments = 0;
};

// Of the rank that owns most: the mean, but where whole parameters are dealt.
Owned most_owned(const ParameterGroup& group, const config::Optimizer& optimizer) {
  const Deal& deal = group.deal;
  const bool deals_parameters = deal.dealing == Dealing::kParameters;
  std::vector<Owned> owners(deals_parameters ? deal.place.size : 1);
  const auto owner_of = [&](const Parameter& parameter) {
    if (!deals_parameters) return owners.begin();
    const auto owns = [&](const Slice& share) { return share.contains(parameter.offset); };
    return owners.begin() + (std::ranges::find_if(deal.owners, owns) - deal.owners.begin());
  };
  for (const Parameter* parameter : group.parameters) {
    Owned& owner = *owner_of(*parameter);
    const int64_t local = parameter->local_count();
    owner.masters += local;
    if (group.trains)
      owner.moments += moment_count(*parameter, optimizer) / (count_of(*parameter) / local);
  }
  Owned most = std::ranges::max(owners, {}, [](const Owned& o) { return o.masters + o.moments; });
  if (deal.dealing == Dealing::kElements) {
    most.masters /= deal.place.size;
    most.moments /= deal.place.size;
  }
  return most;
}

// Of the gates within groups only those of the chosen groups are computed.
bool is_of_gates_within_groups(const Parameter& parameter, const config::Router& router) {
  return router.hierarchy() > config::ONE_LEVEL && parameter.router >= 0 &&
         parameter.use == Use::kMatrix;
}

int64_t active_count(const Parameter& parameter, const config::Moe& moe) {
  const int64_t total = count_of(parameter);
  if (parameter.experts()) return total / parameter.shape[0] * moe.top_k();
  const config::Router& router = moe.router();
  return is_of_gates_within_groups(parameter, router)
             ? total / router.num_groups() * router.group_top_k()
             : total;
}

void count(const Parameter& parameter, const config::Moe& moe, Component& sum) {
  const int64_t active = active_count(parameter, moe);
  sum.total += count_of(parameter);
  sum.active += active;
  if (parameter.use != Use::kMatrix) return;
  (parameter.of_target ? sum.multiplied_by_target : sum.multiplied) += active;
}

}  // namespace

Census census(const config::Model& model) { return census(model, {0, model.num_layers()}); }

Census census(const config::Model& model, const Slice& held) {
  Census result;
  std::array<Component, kComponents.size()> by_role = {};
  const ParameterTable table = parameters_of(model, held);
  for (const Parameter& parameter : table.parameters()) {
    count(parameter, model.moe(),
          parameter.training_only ? result.training_only
                                  : by_role[static_cast<size_t>(parameter.role)]);
  }
  for (size_t role = 0; role < by_role.size(); ++role) {
    Component& component = by_role[role];
    if (component.total == 0) continue;
    component.name = kComponents[role];
    result.total += component.total;
    result.active += component.active;
    result.components.push_back(component);
  }
  return result;
}

Memory memory_per_rank(const config::RunConfig& config, const MeshShape& mesh, int stage,
                       const Slice& held) {
  ParameterTable table = parameters_of(config.model(), held, layout_of(stage, mesh));
  parallel::choose_dealing(config.optimizer(), table);
  table.arrange();
  int64_t parameters = 0, trained = 0;
  Owned owned;
  for (const ParameterGroup& group : table.groups()) {
    for (const Parameter* parameter : group.parameters) {
      parameters += parameter->local_count();
      if (parameter->trains) trained += parameter->local_count();
    }
    const Owned most = most_owned(group, config.optimizer());
    owned.masters += most.masters;
    owned.moments += most.moments;
  }
  const config::ComputeType compute = config.runtime().compute();
  const int64_t value = compute == config::BF16 ? 2 : compute == config::FP32 ? 4 : 8;
  const int64_t wide = compute == config::FP64 ? 8 : 4;  // gradients and each moment
  const int64_t master = compute == config::BF16 ? 4 : 0;
  return {parameters, parameters * value, owned.masters * master, trained * wide,
          owned.moments * wide};
}

std::map<AxisSet, int64_t> summed_gradients(const config::Model& model, const MeshShape& mesh,
                                            int stage, const Slice& held) {
  std::map<AxisSet, int64_t> counts;
  const ParameterTable table = parameters_of(model, held, layout_of(stage, mesh));
  for (const Parameter& parameter : table.parameters())
    if (parameter.trains) counts[parameter.summed] += parameter.local_count();
  return counts;
}

}  // namespace switchyard::models
