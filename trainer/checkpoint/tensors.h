#pragma once
// What a checkpoint calls the tensors of a run, and where they lie in this rank's memory. Names and
// shapes are global, as a parameter's own are; what a rank holds is boxes of them.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/base/box.h"
#include "core/base/dtype.h"
#include "core/tensor/parameter.h"
#include "optim/optimizer.h"

namespace switchyard::trainer {

struct StoredBox {
  Box box;            // of the whole tensor
  at::Tensor memory;  // of the box's extent; a view of this rank's tensor
};

// Where stretches of a rank's elements lie in the whole tensor: the parameter itself, or one that
// goes with it and has all of its dimensions but `missing_dim` (-1: all).
std::vector<StoredBox> boxes_of(const Parameter& parameter, int missing_dim,
                                std::span<const Stretch> stretches);

struct StoredTensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<StoredBox> boxes;  // that this rank owns, or holds as others do
  bool by_expert = false;        // whether dimension 0 counts experts, each of which is a piece
  Place holder;                  // this rank's place among those that hold the same boxes
  int64_t index = 0;  // this tensor's among all weights or all state, alike on its holders
};

// The master weights of the whole model. Requires: an allocated table, on the CPU.
std::vector<StoredTensor> stored_weights(ParameterTable& table);
// The optimizer's state: the weights' names behind the kind of state and a slash, such as
// "first_moment/".
std::vector<StoredTensor> stored_state(optim::Optimizer& optimizer);

// The pieces of the tensor that this rank writes. Of the ranks that hold a piece exactly one does;
// they take turns.
std::vector<StoredBox> pieces_to_write(const StoredTensor& tensor);

// The memory of a contiguous tensor, for reading and writing.
std::span<std::byte> bytes_of(const at::Tensor& tensor);

}  // namespace switchyard::trainer
