#pragma once
// What a checkpoint calls the tensors of a run, and where they lie in this rank's memory. The names
// and shapes are global; a stack of experts is one tensor per expert, so that a checkpoint loads on
// any mesh:  layers.0.moe.experts.w13 [E, ...]  ->  layers.0.moe.experts.3.w13 [...]

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/tensor/parameter.h"
#include "optim/optimizer.h"
#include "parallel/mesh.h"

namespace switchyard::trainer {

struct StoredTensor {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  bool is_expert = false;
  int64_t turn = 0;            // place in the round of writers
  bool is_local = false;       // held by this rank
  std::span<std::byte> bytes;  // in this rank's memory; empty unless local
};

// Of the whole model, those of experts on other ranks included. Requires: an allocated table, on
// the CPU.
std::vector<StoredTensor> stored_weights(ParameterTable& table);
// The optimizer's state: the weights' names behind the kind of state and a slash, such as
// "first_moment/".
std::vector<StoredTensor> stored_state(optim::Optimizer& optimizer);

// Whether this rank writes the tensor. Of the ranks that hold it exactly one does; they take turns.
bool is_written_here(const StoredTensor& tensor, const parallel::Mesh& mesh);

}  // namespace switchyard::trainer
