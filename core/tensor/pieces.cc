// What a rank holds of a parameter. See core/tensor/parameter.h.

#include <algorithm>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/parameter.h"

namespace switchyard {
namespace {

const Cut* cut_of(const Parameter& parameter, int dim) {
  const auto cut = std::ranges::find(parameter.cuts, dim, &Cut::dim);
  return cut == parameter.cuts.end() ? nullptr : &*cut;
}

// What this rank holds of `count` indices that are dealt together.
Slice held(const Parameter& parameter, int dim, int64_t count) {
  const Cut* cut = cut_of(parameter, dim);
  return cut ? share_of(count, parameter.layout[cut->axis]) : Slice{0, count};
}

}  // namespace

std::vector<Piece> Parameter::pieces() const {
  Piece piece{0, {std::vector<int64_t>(shape.size()), shape}, {}};
  for (size_t dim = 0; dim < shape.size(); ++dim) {
    if (static_cast<int>(dim) == part_dim) continue;
    const Slice slice = held(*this, static_cast<int>(dim), shape[dim]);
    piece.global.offset[dim] = slice.begin;
    piece.global.extent[dim] = slice.size();
  }
  std::vector<Piece> pieces;
  int64_t begin = 0, local_begin = 0;
  for (const Part& part : parts) {
    const Slice slice = held(*this, part_dim, part.size);
    piece.global.offset[part_dim] = begin + slice.begin;
    piece.global.extent[part_dim] = slice.size();
    piece.local = {std::vector<int64_t>(shape.size()), piece.global.extent};
    piece.local.offset[part_dim] = local_begin;
    pieces.push_back(piece);
    ++piece.part;
    begin += part.size;
    local_begin += slice.size();
  }
  return pieces;
}

std::vector<int64_t> Parameter::local_shape() const {
  const std::vector<Piece> held = pieces();
  std::vector<int64_t> local = held.back().local.extent;
  local[part_dim] += held.back().local.offset[part_dim];
  return local;
}

int64_t Parameter::local_count() const { return num_elements(local_shape()); }

AxisSet Parameter::cut_axes() const {
  AxisSet axes;
  for (const Cut& cut : cuts) axes.insert(cut.axis);
  return axes;
}

std::optional<Slice> Parameter::experts() const {
  const Cut* cut = cut_of(*this, 0);
  if (!cut || cut->axis != Axis::kExpert) return std::nullopt;
  return share_of(shape[0], layout[Axis::kExpert]);
}

at::Tensor view_of(const at::Tensor& local, const Box& box) {
  at::Tensor view = local;
  for (size_t dim = 0; dim < box.extent.size(); ++dim)
    view = view.narrow(static_cast<int64_t>(dim), box.offset[dim], box.extent[dim]);
  return view;
}

}  // namespace switchyard
