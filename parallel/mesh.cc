#include "parallel/mesh.h"

#include <algorithm>
#include <map>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/base/errors.h"

namespace switchyard::parallel {
namespace {

constexpr size_t kMostShown = 8;  // groups or hosts, of which a large job has thousands

// "0-3 8 12-15": ranks in ascending order.
std::string ranges_text(const std::vector<int>& ranks) {
  std::vector<std::string> ranges;
  for (size_t begin = 0, end = 1; begin < ranks.size(); begin = end++) {
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    ranges.push_back(end - begin == 1 ? fmt::format("{}", ranks[begin])
                                      : fmt::format("{}-{}", ranks[begin], ranks[end - 1]));
  }
  return fmt::format("{}", fmt::join(ranges, " "));
}

std::string some_of(std::vector<std::string> texts) {
  const size_t all = texts.size();
  texts.resize(std::min(all, kMostShown));
  if (all > kMostShown) texts.push_back(fmt::format("{} more", all - kMostShown));
  return fmt::format("{}", fmt::join(texts, " | "));
}

// "0-3", "0 2 4", "0-6 by 2": ranks that are evenly apart.
std::string group_text(const std::vector<int>& ranks) {
  const int stride = ranks.size() > 1 ? ranks[1] - ranks[0] : 1;
  if (stride == 1 || ranks.size() <= 3) return ranges_text(ranks);
  return fmt::format("{}-{} by {}", ranks.front(), ranks.back(), stride);
}

// "(see different tokens): 0 2 | 1 3": the ranks of each group along the axis.
std::string groups_text(const MeshShape& shape, Axis axis, const std::vector<std::string>& host) {
  std::vector<std::vector<int>> groups(shape.ranks() / shape.size(axis));
  for (int rank = 0; rank < shape.ranks(); ++rank)
    groups[shape.group_along(axis, rank)].push_back(rank);
  bool crosses_hosts = false;
  std::vector<std::string> texts;
  for (const std::vector<int>& group : groups) {
    texts.push_back(group_text(group));
    for (const int rank : group) crosses_hosts |= host[rank] != host[group.front()];
  }
  return fmt::format("({}{}): {}", words_of(axis).meaning, crosses_hosts ? ", across hosts" : "",
                     some_of(std::move(texts)));
}

// "node1 0-3 | node2 4-7".
std::string hosts_text(const std::map<std::string, std::vector<int>>& ranks_of_host) {
  std::vector<std::string> texts;
  for (const auto& [host, ranks] : ranks_of_host)
    texts.push_back(fmt::format("{} {}", host, ranges_text(ranks)));
  return some_of(std::move(texts));
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

std::string Mesh::describe(const std::vector<std::string>& host_of_rank) const {
  std::map<std::string, std::vector<int>> ranks_of_host;
  for (int rank = 0; rank < shape_.ranks(); ++rank)
    ranks_of_host[host_of_rank[rank]].push_back(rank);
  const bool is_one_host = ranks_of_host.size() == 1;
  std::string text =
      fmt::format("mesh of {} rank(s) on {}", shape_.ranks(),
                  is_one_host ? host_of_rank[0] : fmt::format("{} hosts", ranks_of_host.size()));
  const std::string degrees = degrees_text(shape_);
  if (!degrees.empty()) text += ": " + degrees;
  if (!is_one_host) text += "\n  hosts: " + hosts_text(ranks_of_host);
  for (const Axis axis : kAllAxes) {
    if (divided_axes(shape_).contains(axis))
      text += fmt::format("\n  {} groups {}", words_of(axis).name,
                          groups_text(shape_, axis, host_of_rank));
  }
  return text;
}

}  // namespace switchyard::parallel
