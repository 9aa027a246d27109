#include "trainer/checkpoint/tensors.h"

#include <algorithm>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"

namespace switchyard::trainer {
namespace {

// Master weights and optimizer state are in the exact type.
DType dtype_of(const Parameter& parameter) {
  SY_CHECK(parameter.value.is_cpu(), "checkpoints are written from CPU memory");
  const bool is_double = exact_type(parameter.value.scalar_type()) == at::kDouble;
  return is_double ? DType::kFloat64 : DType::kFloat32;
}

// The axes over which a gradient is summed are those of the ranks that hold the same, but for one
// over which owners are dealt; so is the axis that deals the dimension which a tensor that goes
// with the parameter does not have.
Place holder_of(const Parameter& parameter, int missing_dim) {
  AxisSet same = parameter.summed;
  if (const Deal& deal = parameter.group->deal; deal.dealing != Dealing::kWhole)
    same.erase(deal.axis);
  for (const Cut& cut : parameter.cuts)
    if (cut.dim == missing_dim) same.insert(cut.axis);
  Place holder;
  for (const Axis axis : kAllAxes) {
    if (!same.contains(axis)) continue;
    const Place& place = parameter.layout[axis];
    holder = {holder.index * place.size + place.index, holder.size * place.size};
  }
  return holder;
}

// The parameter's pieces; those of parts that follow each other in the whole tensor too are one.
std::vector<Piece> joined_pieces(const Parameter& parameter) {
  const auto dim = static_cast<size_t>(parameter.part_dim);
  std::vector<Piece> joined;
  for (const Piece& piece : parameter.pieces()) {
    Box* last = joined.empty() ? nullptr : &joined.back().global;
    if (last && last->offset[dim] + last->extent[dim] == piece.global.offset[dim]) {
      last->extent[dim] += piece.global.extent[dim];
      joined.back().local.extent[dim] += piece.local.extent[dim];
    } else {
      joined.push_back(piece);
    }
  }
  return joined;
}

Box without(Box box, int dim) {
  if (dim < 0) return box;
  box.offset.erase(box.offset.begin() + dim);
  box.extent.erase(box.extent.begin() + dim);
  return box;
}

StoredTensor stored(const Parameter& parameter, const std::string& prefix, int missing_dim,
                    std::span<const Stretch> owned) {
  return {.name = prefix + parameter.name,
          .dtype = dtype_of(parameter),
          .shape = without(whole_box(parameter.shape), missing_dim).extent,
          .boxes = boxes_of(parameter, missing_dim, owned),
          .by_expert = parameter.experts().has_value(),
          .holder = holder_of(parameter, missing_dim)};
}

// The box, which lies in `from`, at its place in `to`.
Box moved(Box box, const Box& from, const Box& to) {
  for (size_t dim = 0; dim < box.offset.size(); ++dim)
    box.offset[dim] += to.offset[dim] - from.offset[dim];
  return box;
}

// Adds what the parameter's pieces have of `held`, a box of the local tensor, as boxes of the whole
// one. Parts that lie along the missing dimension have the same, which counts once.
void add_common(const StoredBox& held, const Parameter& parameter, int missing_dim,
                std::vector<StoredBox>& boxes) {
  for (const Piece& piece : joined_pieces(parameter)) {
    const Box local = without(piece.local, missing_dim);
    const auto common = intersection(held.box, local);
    if (!common) continue;
    const Box box = moved(*common, local, without(piece.global, missing_dim));
    if (std::ranges::find(boxes, box, &StoredBox::box) != boxes.end()) continue;
    boxes.push_back(
        {box, view_of(held.memory, moved(*common, held.box, whole_box(held.box.extent)))});
  }
}

// StoredTensor::index of the parameter's tensor behind `before` others. Stages count apart what
// they hold, so that what several of them hold has no number of its own.
int64_t index_of(const Parameter& parameter, int64_t before) {
  return parameter.summed.contains(Axis::kPipeline) ? 0 : before;
}

}  // namespace

std::vector<StoredBox> boxes_of(const Parameter& parameter, int missing_dim,
                                std::span<const Stretch> stretches) {
  const Box local = without(whole_box(parameter.local_shape()), missing_dim);
  std::vector<StoredBox> boxes;
  for (const Stretch& stretch : stretches) {
    int64_t next = 0;  // of the stretch's elements
    for (const Box& held : boxes_of_range(local.extent, stretch.range)) {
      const int64_t count = num_elements(held.extent);
      add_common({held, stretch.values.narrow(0, next, count).view(held.extent)}, parameter,
                 missing_dim, boxes);
      next += count;
    }
  }
  return boxes;
}

std::vector<StoredTensor> stored_weights(ParameterTable& table) {
  std::vector<StoredTensor> tensors;
  for (const ParameterGroup& group : table.groups()) {
    for (const Parameter* parameter : group.parameters) {
      const int64_t index = index_of(*parameter, std::ssize(tensors));
      tensors.push_back(stored(*parameter, "", -1, parameter->owned));
      tensors.back().index = index;
    }
  }
  return tensors;
}

std::vector<StoredTensor> stored_state(optim::Optimizer& optimizer) {
  std::vector<StoredTensor> tensors;
  for (const optim::StateTensor& state : optimizer.state()) {
    const int64_t index = index_of(*state.parameter, std::ssize(tensors));
    tensors.push_back(stored(*state.parameter, state.kind + "/", state.missing_dim, state.owned));
    tensors.back().index = index;
  }
  return tensors;
}

std::vector<StoredBox> pieces_to_write(const StoredTensor& tensor) {
  std::vector<StoredBox> pieces;
  const auto add = [&](const StoredBox& piece, int64_t turn) {
    if (turn % tensor.holder.size == tensor.holder.index) pieces.push_back(piece);
  };
  for (const StoredBox& held : tensor.boxes) {
    if (!tensor.by_expert) {
      add(held, tensor.index);
      continue;
    }
    StoredBox expert = held;
    expert.box.extent[0] = 1;
    for (int64_t i = 0; i < held.box.extent[0]; ++i) {
      expert.box.offset[0] = held.box.offset[0] + i;
      expert.memory = held.memory.narrow(0, i, 1);
      add(expert, tensor.index + expert.box.offset[0]);
    }
  }
  return pieces;
}

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  SY_CHECK(tensor.is_contiguous(), "checkpoints are written from contiguous memory");
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

}  // namespace switchyard::trainer
