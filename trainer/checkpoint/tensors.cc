#include "trainer/checkpoint/tensors.h"

#include <functional>
#include <numeric>

#include <fmt/format.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "trainer/checkpoint/manifest.h"

namespace switchyard::trainer {
namespace {

// A tensor of the model's or the optimizer's, which goes with a parameter.
struct Held {
  const Parameter& parameter;
  std::string prefix;                 // of its name
  const std::vector<int64_t>& shape;  // global
  const at::Tensor& local;            // contiguous
  int64_t index;                      // its place among all of its kind, the same on all ranks
};

DType dtype_of(const at::Tensor& tensor) {
  SY_CHECK(tensor.is_cpu(), "checkpoints are written from CPU memory");
  SY_CHECK(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble,
           "master weights and optimizer state are float32 or float64");
  return tensor.scalar_type() == at::kFloat ? DType::kFloat32 : DType::kFloat64;
}

std::string expert_name(const std::string& name, int64_t expert) {
  const size_t dot = name.rfind('.');
  const size_t last_part = dot == std::string::npos ? 0 : dot + 1;
  return fmt::format("{}{}.{}", name.substr(0, last_part), expert, name.substr(last_part));
}

std::span<std::byte> bytes_of(const at::Tensor& tensor) {
  SY_CHECK(tensor.is_contiguous(), "checkpoints are written from contiguous memory");
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

void append_experts(const Held& held, std::vector<StoredTensor>& out) {
  const auto local = bytes_of(held.local);
  const auto [begin, end] = *held.parameter.experts();
  const size_t expert_bytes = end > begin ? local.size() / static_cast<size_t>(end - begin) : 0;
  for (int64_t expert = 0; expert < held.shape[0]; ++expert) {
    StoredTensor tensor{.name = held.prefix + expert_name(held.parameter.name, expert),
                        .dtype = dtype_of(held.local),
                        .shape = {held.shape.begin() + 1, held.shape.end()},
                        .is_expert = true,
                        .turn = held.index + expert,
                        .is_local = begin <= expert && expert < end,
                        .bytes = {}};
    if (tensor.is_local) {
      tensor.bytes =
          local.subspan(static_cast<size_t>(expert - begin) * expert_bytes, expert_bytes);
    }
    out.push_back(std::move(tensor));
  }
}

void append(const Held& held, std::vector<StoredTensor>& out) {
  if (held.parameter.experts()) return append_experts(held, out);
  out.push_back({.name = held.prefix + held.parameter.name,
                 .dtype = dtype_of(held.local),
                 .shape = held.shape,
                 .is_expert = false,
                 .turn = held.index,
                 .is_local = true,
                 .bytes = bytes_of(held.local)});
}

}  // namespace

std::vector<StoredTensor> stored_weights(ParameterTable& table) {
  std::vector<StoredTensor> tensors;
  int64_t index = 0;
  for (const ParameterGroup& group : table.groups()) {
    for (const Parameter* parameter : group.parameters) {
      append({*parameter, "", parameter->shape, parameter->master, index++}, tensors);
    }
  }
  return tensors;
}

std::vector<StoredTensor> stored_state(optim::Optimizer& optimizer) {
  std::vector<StoredTensor> tensors;
  int64_t index = 0;
  for (const optim::StateTensor& state : optimizer.state()) {
    append({*state.parameter, state.kind + "/", state.shape, state.value, index++}, tensors);
  }
  return tensors;
}

bool is_written_here(const StoredTensor& tensor, const parallel::Mesh& mesh) {
  const parallel::Communicator& holders = tensor.is_expert ? mesh.expert_data() : mesh.data();
  return tensor.is_local && tensor.turn % holders.size() == holders.rank();
}

}  // namespace switchyard::trainer
