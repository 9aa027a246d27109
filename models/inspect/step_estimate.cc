#include "models/inspect/step_estimate.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "models/inspect/cost.h"
#include "models/inspect/memory.h"
#include "models/inspect/traffic.h"

namespace switchyard::models {
namespace {

using Json = nlohmann::ordered_json;

// "data 4, expert 2": the degrees above 1 that were chosen.
std::string name_of(const MeshShape& mesh) {
  std::vector<std::string> degrees;
  for (const Axis axis : kAllAxes) {
    if (mesh.size(axis) > 1 && axis != Axis::kExpertData)
      degrees.push_back(fmt::format("{} {}", words_of(axis).name, mesh.size(axis)));
  }
  return degrees.empty() ? "one rank" : fmt::format("{}", fmt::join(degrees, ", "));
}

struct Row {
  const MeshShape* mesh;
  StepEstimate estimate;
};

std::vector<Row> fastest_first(const config::RunConfig& config,
                               const std::vector<MeshShape>& meshes,
                               const AssumedMachine& machine) {
  std::vector<Row> rows;
  for (const MeshShape& mesh : meshes) {
    const StepEstimate estimate = estimate_step(config, mesh, machine);
    if (machine.memory == 0 || estimate.memory <= machine.memory) rows.push_back({&mesh, estimate});
  }
  std::ranges::stable_sort(rows, {}, [](const Row& row) { return row.estimate.seconds(); });
  return rows;
}

Json to_json(const Row& row) {
  Json degrees = Json::object();
  for (const Axis axis : kAllAxes) degrees[words_of(axis).name] = row.mesh->size(axis);
  const StepEstimate& e = row.estimate;
  return {{"mesh", degrees},
          {"memory_bytes", e.memory},
          {"node_bytes", e.node_bytes},
          {"network_bytes", e.network_bytes},
          {"compute_seconds", e.compute_seconds},
          {"idle_seconds", e.idle_seconds},
          {"link_seconds", e.link_seconds},
          {"seconds", e.seconds()}};
}

std::string to_text(const std::vector<Row>& rows, const std::vector<MeshShape>& meshes,
                    const AssumedMachine& machine) {
  constexpr size_t kMost = 20;
  std::string text = fmt::format(
      "{} ranks, {} to a node. Times assume that a rank reaches {:g} TFLOP/s, sends {:g} GB/s "
      "within "
      "its node and {:g} GB/s\nbetween nodes, {:g} us a message, and does not compute "
      "meanwhile.\n\n"
      "{:>11} {:>12} {:>12} {:>10} {:>8} {:>8} {:>8}   mesh\n",
      meshes.front().ranks(), machine.node_ranks, machine.flops * 1e-12, machine.node_bytes * 1e-9,
      machine.network_bytes * 1e-9, machine.message_seconds * 1e6, "memory", "in node", "between",
      "compute", "idle", "links", "step");
  for (size_t i = 0; i < std::min(kMost, rows.size()); ++i) {
    const StepEstimate& e = rows[i].estimate;
    text += fmt::format("{:>11} {:>12} {:>12} {:>8.3g} s {:>6.3g} s {:>6.3g} s {:>6.3g} s   {}\n",
                        format_bytes(e.memory), format_bytes(e.node_bytes),
                        format_bytes(e.network_bytes), e.compute_seconds, e.idle_seconds,
                        e.link_seconds, e.seconds(), name_of(*rows[i].mesh));
  }
  if (rows.size() > kMost) text += fmt::format("and {} slower ones\n", rows.size() - kMost);
  if (rows.size() < meshes.size())
    text += fmt::format("{} mesh(es) need more than {} on a rank\n", meshes.size() - rows.size(),
                        format_bytes(machine.memory));
  return text;
}

}  // namespace

StepEstimate estimate_step(const config::RunConfig& config, const MeshShape& mesh,
                           const AssumedMachine& machine) {
  StepEstimate estimate;
  estimate.memory = memory_plan(config, mesh).total();
  const double tokens = double{1} * config.train().global_batch() * config.data().sequence_length();
  const double passes = config.train().recompute() == config::RECOMPUTE_LAYER ? 4.0 / 3 : 1;
  estimate.compute_seconds = passes * tokens *
                             flops_per_token(config.model(), sequence_lengths(config)) /
                             (machine.flops * mesh.ranks());
  // While the first micro-batch comes and the last one leaves.
  const int stages = mesh.size(Axis::kPipeline);
  estimate.idle_seconds =
      estimate.compute_seconds * (stages - 1) / std::max(1, config.train().accumulation());
  for (const TrafficTerm& term : traffic_per_step(config, mesh)) {
    const double outside = share_between_nodes(mesh, term.axis, machine.node_ranks);
    estimate.network_bytes += outside * term.bytes;
    estimate.node_bytes += (1 - outside) * term.bytes;
    estimate.link_seconds += term.messages * machine.message_seconds;
  }
  estimate.link_seconds +=
      estimate.node_bytes / machine.node_bytes + estimate.network_bytes / machine.network_bytes;
  return estimate;
}

std::string compare_meshes(const config::RunConfig& config, const std::vector<MeshShape>& meshes,
                           const AssumedMachine& machine, bool json) {
  const std::vector<Row> rows = fastest_first(config, meshes, machine);
  if (json) {
    Json list = Json::array();
    for (const Row& row : rows) list.push_back(to_json(row));
    return list.dump(2) + "\n";
  }
  return to_text(rows, meshes, machine);
}

}  // namespace switchyard::models
