#include "trainer/checkpoint/tensors.h"

#include <algorithm>

#include "core/base/errors.h"
#include "core/tensor/aten.h"

namespace switchyard::trainer {
namespace {

DType dtype_of(const at::Tensor& tensor) {
  SY_CHECK(tensor.is_cpu(), "checkpoints are written from CPU memory");
  SY_CHECK(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble,
           "master weights and optimizer state are float32 or float64");
  return tensor.scalar_type() == at::kFloat ? DType::kFloat32 : DType::kFloat64;
}

// The axes over which a gradient is summed are those of the ranks that hold the same; so is the
// axis that deals the dimension which a tensor that goes with the parameter does not have.
Place holder_of(const Parameter& parameter, int missing_dim) {
  AxisSet same = parameter.summed;
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

// `local` is this rank's of the parameter, or of a tensor that goes with it and has all of its
// dimensions but `missing_dim` (-1: all).
StoredTensor stored(const Parameter& parameter, const std::string& prefix, int missing_dim,
                    const at::Tensor& local) {
  StoredTensor tensor{.name = prefix + parameter.name,
                      .dtype = dtype_of(local),
                      .shape = without(whole_box(parameter.shape), missing_dim).extent,
                      .boxes = {},
                      .by_expert = parameter.experts().has_value(),
                      .holder = holder_of(parameter, missing_dim)};
  for (const Piece& piece : joined_pieces(parameter)) {
    const Box box = without(piece.global, missing_dim);
    const bool is_new = std::ranges::find(tensor.boxes, box, &StoredBox::box) == tensor.boxes.end();
    if (is_new) tensor.boxes.push_back({box, view_of(local, without(piece.local, missing_dim))});
  }
  return tensor;
}

// StoredTensor::index of the parameter's tensor behind `before` others. Stages count apart what
// they hold, so that what several of them hold has no number of its own.
int64_t index_of(const Parameter& parameter, int64_t before) {
  return parameter.summed.contains(Axis::kPipeline) ? 0 : before;
}

}  // namespace

std::vector<StoredTensor> stored_weights(ParameterTable& table) {
  std::vector<StoredTensor> tensors;
  for (const ParameterGroup& group : table.groups()) {
    for (const Parameter* parameter : group.parameters) {
      const int64_t index = index_of(*parameter, std::ssize(tensors));
      tensors.push_back(stored(*parameter, "", -1, parameter->master));
      tensors.back().index = index;
    }
  }
  return tensors;
}

std::vector<StoredTensor> stored_state(optim::Optimizer& optimizer) {
  std::vector<StoredTensor> tensors;
  for (const optim::StateTensor& state : optimizer.state()) {
    const int64_t index = index_of(*state.parameter, std::ssize(tensors));
    tensors.push_back(stored(*state.parameter, state.kind + "/", state.missing_dim, state.value));
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
