#include "parallel/mesh.h"

#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

// "0 2 | 1 3": the ranks of each group along the axis.
std::string groups_text(const MeshShape& shape, Axis axis) {
  std::vector<std::vector<int>> groups(shape.ranks() / shape.size(axis));
  for (int rank = 0; rank < shape.ranks(); ++rank)
    groups[shape.group_along(axis, rank)].push_back(rank);
  std::vector<std::string> texts;
  for (const std::vector<int>& group : groups)
    texts.push_back(fmt::format("{}", fmt::join(group, " ")));
  return fmt::format("{}", fmt::join(texts, " | "));
}

}  // namespace

Mesh::Mesh(Communicator& world, const MeshShape& shape) : control_(&world), shape_(shape) {
  SY_CHECK(shape.ranks() == world.size(), "a mesh of {} ranks in a world of {}", shape.ranks(),
           world.size());
  for (const Axis axis : kAllAxes) {
    const int group = shape.group_along(axis, world.rank());
    groups_[static_cast<size_t>(axis)] =
        world.split(group, fmt::format("{}[{}]", words_of(axis).name, group));
  }
  pipeline_.emplace(along(Axis::kPipeline));
}

int64_t Mesh::bytes_sent(Axis axis) const {
  return axis == Axis::kPipeline ? pipeline_->bytes_sent() : along(axis).traffic().bytes_sent;
}

std::string Mesh::describe() const {
  std::vector<std::string> degrees;
  std::string groups;
  for (const Axis axis : kAllAxes) {
    const AxisWords& words = words_of(axis);
    degrees.push_back(fmt::format("{} {}", words.name, shape_.size(axis)));
    if (shape_.size(axis) == 1) continue;
    groups +=
        fmt::format("\n  {} groups ({}): {}", words.name, words.meaning, groups_text(shape_, axis));
  }
  return fmt::format("mesh of {} ranks: {}{}", shape_.ranks(), fmt::join(degrees, ", "), groups);
}

}  // namespace switchyard::parallel
