#include "core/config/mesh_shape.h"

#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"
#include "core/config/validate_rules.h"

namespace switchyard::config {
namespace {

// 0: the model has none, or does not say yet.
int num_experts(const Model& model) { return model.has_moe() ? model.moe().num_experts() : 0; }

void check_data_degree(int data, int ranks, Findings& findings) {
  if (data < 1)
    findings.add("mesh.data ({}) must be at least 1; raise it", data);
  else if (ranks > 0 && data != ranks)
    findings.add(
        "mesh.data ({}) must equal the number of ranks ({}), as every rank takes its own "
        "share of the batch; leave it out to follow the ranks",
        data, ranks);
}

void check_expert_degree(int expert, const Model& model, Findings& findings) {
  if (expert < 1)
    findings.add("mesh.expert ({}) must be at least 1; raise it", expert);
  else if (!model.has_moe() && expert > 1)
    findings.add(
        "mesh.expert ({}) must be 1 or unset, as the model has no experts; remove it or "
        "set model.moe",
        expert);
  else if (num_experts(model) % expert != 0)
    findings.add("mesh.expert ({}) must divide model.moe.num_experts ({}); choose a divisor",
                 expert, num_experts(model));
}

// The two together.
void check_folding(const Mesh& asked, int ranks, Findings& findings) {
  const int data = asked.data(), expert = asked.expert();
  if (expert < 1) return;
  if (ranks > 0 && ranks % expert != 0)
    findings.add(
        "mesh.expert ({}) must divide the number of ranks ({}); choose a divisor or start "
        "more ranks",
        expert, ranks);
  else if (ranks == 0 && data > 0 && data % expert != 0)
    findings.add("mesh.expert ({}) must divide mesh.data ({}); change one of them", expert, data);
}

}  // namespace

std::vector<std::string> mesh_problems(const Mesh& asked, const Model& model, int ranks) {
  Findings findings;
  if (asked.has_expert()) check_expert_degree(asked.expert(), model, findings);
  check_folding(asked, ranks, findings);
  if (asked.has_data()) check_data_degree(asked.data(), ranks, findings);
  return findings.lines;
}

MeshShape mesh_shape(const Mesh& asked, const Model& model, int ranks) {
  const std::vector<std::string> problems = mesh_problems(asked, model, ranks);
  if (!problems.empty()) throw ConfigError(fmt::format("{}", fmt::join(problems, "\n")));
  const int experts = num_experts(model);
  const int chosen = experts > 0 ? std::gcd(ranks, experts) : 1;
  return MeshShape({.data = ranks, .expert = asked.has_expert() ? asked.expert() : chosen});
}

}  // namespace switchyard::config
