#include "core/base/layout.h"

#include "core/base/errors.h"

namespace switchyard {

const char* name_of(Axis axis) {
  switch (axis) {
    case Axis::kData:
      return "data";
    case Axis::kExpert:
      return "expert";
    case Axis::kExpertData:
      return "expert_data";
  }
  return "?";
}

Slice share_of(int64_t count, const Place& place) {
  SY_CHECK(
      place.size > 0 && count % place.size == 0 && place.index >= 0 && place.index < place.size,
      "{} things cannot be dealt to rank {} of {}", count, place.index, place.size);
  const int64_t each = count / place.size;
  return {place.index * each, (place.index + 1) * each};
}

MeshShape::MeshShape(const MeshDegrees& degrees) : ranks_(degrees.data) {
  const auto [data, expert] = degrees;
  SY_CHECK(data > 0 && expert > 0 && data % expert == 0, "a mesh of data {} and expert {}", data,
           expert);
  const auto arrange = [&](Axis axis, int size, int stride) {
    extents_[static_cast<size_t>(axis)] = {size, stride};
  };
  arrange(Axis::kData, data, 1);
  arrange(Axis::kExpert, expert, 1);
  arrange(Axis::kExpertData, data / expert, expert);
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

}  // namespace switchyard
