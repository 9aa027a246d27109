#include "core/base/layout.h"

#include <fmt/format.h>

#include "core/base/errors.h"

namespace switchyard {

const AxisWords& words_of(Axis axis) {
  static constexpr std::array<AxisWords, kAllAxes.size()> kWords = {{
      {"data", "see different tokens"},
      {"tensor", "hold each matrix together"},
      {"pipeline", "hold the layers together"},
      {"expert", "hold all experts together"},
      {"expert_tensor", "hold each expert together"},
      {"expert_data", "hold the same experts"},
  }};
  return kWords[static_cast<size_t>(axis)];
}

Slice share_of(int64_t count, const Place& place) {
  SY_CHECK(
      place.size > 0 && count % place.size == 0 && place.index >= 0 && place.index < place.size,
      "{} things cannot be dealt to rank {} of {}", count, place.index, place.size);
  const int64_t each = count / place.size;
  return {place.index * each, (place.index + 1) * each};
}

MeshShape::MeshShape(const MeshDegrees& degrees)
    : ranks_(degrees.data * degrees.tensor * degrees.pipeline) {
  const auto [data, tensor, pipeline, expert, expert_tensor] = degrees;
  const int stage = data * tensor, holders = expert * expert_tensor;
  SY_CHECK(data > 0 && tensor > 0 && pipeline > 0 && expert > 0 && expert_tensor > 0 &&
               stage % holders == 0,
           "a mesh of data {}, tensor {}, pipeline {}, expert {} and expert_tensor {}", data,
           tensor, pipeline, expert, expert_tensor);
  const auto arrange = [&](Axis axis, int size, int stride) {
    extents_[static_cast<size_t>(axis)] = {size, stride};
  };
  arrange(Axis::kData, data, tensor);
  arrange(Axis::kTensor, tensor, 1);
  arrange(Axis::kPipeline, pipeline, stage);
  arrange(Axis::kExpert, expert, expert_tensor);
  arrange(Axis::kExpertTensor, expert_tensor, 1);
  arrange(Axis::kExpertData, stage / holders, holders);
}

Layout MeshShape::layout(int rank) const {
  Layout layout;
  for (const Axis axis : kAllAxes) {
    const auto [size, stride] = extent(axis);
    layout[axis] = {rank / stride % size, size};
  }
  return layout;
}

int MeshShape::group_along(Axis axis, int rank) const {
  const auto [size, stride] = extent(axis);
  return rank / (size * stride) * stride + rank % stride;
}

AxisSet divided_axes(const MeshShape& shape) {
  AxisSet axes;
  for (const Axis axis : kAllAxes)
    if (shape.size(axis) > 1) axes.insert(axis);
  if (shape.size(Axis::kExpert) * shape.size(Axis::kExpertTensor) == 1)
    axes.erase(Axis::kExpertData);
  return axes;
}

std::string degrees_text(const MeshShape& shape) {
  const AxisSet axes = divided_axes(shape);
  std::string text;
  for (const Axis axis : kAllAxes) {
    if (!axes.contains(axis)) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", words_of(axis).name, shape.size(axis));
  }
  return text;
}

}  // namespace switchyard
