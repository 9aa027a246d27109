#include "trainer/selfcheck/blame.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace switchyard::trainer {
namespace {

template <typename Condition>
std::vector<Axis> axes_that(const Condition& holds) {
  std::vector<Axis> axes;
  std::ranges::copy_if(kAllAxes, std::back_inserter(axes), holds);
  return axes;
}

auto count_axes(const AxisSet& axes) {
  return std::ranges::count_if(kAllAxes, [&](Axis axis) { return axes.contains(axis); });
}

bool explains(const Cause& cause, const AxisSet& axes) {
  const auto is_there = [&](Axis axis) { return axes.contains(axis); };
  return cause.is_joint ? std::ranges::all_of(cause.axes, is_there)
                        : std::ranges::any_of(cause.axes, is_there);
}

}  // namespace

std::string Cause::text() const {
  std::vector<std::string> names;
  for (const Axis axis : axes) names.emplace_back(words_of(axis).name);
  return fmt::format("{}", fmt::join(names, is_joint ? " with " : " or "));
}

std::vector<Cause> causes_of(std::span<const MeshVerdict> meshes) {
  std::vector<AxisSet> missing;
  AxisSet innocent;
  for (const MeshVerdict& mesh : meshes) {
    if (mesh.misses) missing.push_back(mesh.axes);
    for (const Axis axis : kAllAxes)
      if (!mesh.misses && mesh.axes.contains(axis)) innocent.insert(axis);
  }
  if (missing.empty()) return {};
  const auto is_in_all = [&](Axis axis) {
    return !innocent.contains(axis) &&
           std::ranges::all_of(missing, [&](const AxisSet& axes) { return axes.contains(axis); });
  };
  if (const auto common = axes_that(is_in_all); !common.empty()) return {{common}};
  std::ranges::sort(missing, {}, count_axes);
  std::vector<Cause> causes;
  for (const AxisSet& axes : missing) {
    if (std::ranges::any_of(causes, [&](const Cause& c) { return explains(c, axes); })) continue;
    const auto suspects =
        axes_that([&](Axis axis) { return axes.contains(axis) && !innocent.contains(axis); });
    if (!suspects.empty())
      causes.push_back({suspects});
    else
      causes.push_back({axes_that([&](Axis axis) { return axes.contains(axis); }), true});
  }
  return causes;
}

}  // namespace switchyard::trainer
