#include "parallel/mesh.h"

#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

// Ranks first, first + stride, ...: "0 2 4".
std::string ranks_text(int first, int stride, int count) {
  std::vector<int> ranks(count);
  for (int i = 0; i < count; ++i) ranks[i] = first + i * stride;
  return fmt::format("{}", fmt::join(ranks, " "));
}

}  // namespace

Mesh::Shape Mesh::resolve(int ranks, const MeshDegrees& degrees, int num_experts) {
  const int data = degrees.data.value_or(ranks);
  if (data != ranks) {
    throw ConfigError(
        fmt::format("mesh.data ({}) must be the number of ranks ({}); unset it, or launch {} ranks",
                    data, ranks, data));
  }
  const int expert = degrees.expert.value_or(num_experts > 0 ? std::gcd(ranks, num_experts) : 1);
  if (expert < 1 || ranks % expert != 0) {
    throw ConfigError(fmt::format(
        "mesh.expert ({}) must divide the number of ranks ({}); unset it to have it chosen", expert,
        ranks));
  }
  if (num_experts == 0 && expert != 1) {
    throw ConfigError(
        fmt::format("mesh.expert ({}) must be 1 or unset for a model without experts", expert));
  }
  if (num_experts % expert != 0) {
    throw ConfigError(fmt::format(
        "mesh.expert ({}) must divide the number of experts ({}); unset it to have it chosen",
        expert, num_experts));
  }
  return {data, expert, ranks / expert};
}

Mesh::Mesh(Communicator& world, const MeshDegrees& degrees, int num_experts) : world_(&world) {
  const Shape shape = resolve(world.size(), degrees, num_experts);
  const int expert_index = world.rank() % shape.expert;
  const int expert_data_index = world.rank() / shape.expert;
  expert_ = world.split(expert_data_index, fmt::format("expert[{}]", expert_data_index));
  expert_data_ = world.split(expert_index, fmt::format("expert_data[{}]", expert_index));
}

Communicator& Mesh::along(Axis axis) const {
  switch (axis) {
    case Axis::kExpert:
      return *expert_;
    case Axis::kExpertData:
      return *expert_data_;
    default:
      return *world_;
  }
}

Layout Mesh::layout() const {
  Layout layout;
  for (const Axis axis : kAllAxes) layout[axis] = {along(axis).rank(), along(axis).size()};
  return layout;
}

std::string Mesh::describe() const {
  const int num_expert = expert_->size();
  const int num_expert_data = expert_data_->size();
  std::vector<std::string> expert_groups, expert_data_groups;
  for (int i = 0; i < num_expert_data; ++i) {
    expert_groups.push_back(ranks_text(i * num_expert, 1, num_expert));
  }
  for (int i = 0; i < num_expert; ++i) {
    expert_data_groups.push_back(ranks_text(i, num_expert, num_expert_data));
  }
  return fmt::format(
      "mesh of {} ranks: data {}, expert {}, expert_data {}\n"
      "  expert groups (hold all experts together): {}\n"
      "  expert_data groups (hold the same experts): {}",
      world_->size(), world_->size(), num_expert, num_expert_data, fmt::join(expert_groups, " | "),
      fmt::join(expert_data_groups, " | "));
}

}  // namespace switchyard::parallel
