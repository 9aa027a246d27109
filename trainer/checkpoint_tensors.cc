#include "trainer/checkpoint_tensors.h"

#include <functional>
#include <numeric>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/errors.h"
#include "trainer/checkpoint_manifest.h"

namespace switchyard::trainer {
namespace {

// A flat buffer laid out as a group's master, and how its tensors' names begin.
struct Buffer {
  const ParameterGroup& group;
  const at::Tensor& flat;
  std::string prefix;
};

DType dtype_of(const at::Tensor& tensor) {
  SY_CHECK(tensor.is_cpu(), "checkpoints are written from CPU memory");
  SY_CHECK(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kDouble,
           "master weights and moments are float32 or float64");
  return tensor.scalar_type() == at::kFloat ? DType::kFloat32 : DType::kFloat64;
}

std::string expert_name(const std::string& name, int64_t expert) {
  const size_t dot = name.rfind('.');
  const size_t last_part = dot == std::string::npos ? 0 : dot + 1;
  return fmt::format("{}{}.{}", name.substr(0, last_part), expert, name.substr(last_part));
}

// The part of the buffer that holds this rank's slice of the parameter.
std::span<std::byte> bytes_of(const Buffer& buffer, const Parameter& parameter) {
  const int64_t offset = parameter.master.storage_offset() - buffer.group.master.storage_offset();
  const size_t element = size_of(dtype_of(buffer.flat));
  auto* begin = static_cast<std::byte*>(buffer.flat.data_ptr());
  return {begin + static_cast<size_t>(offset) * element,
          static_cast<size_t>(parameter.local_count()) * element};
}

void append_experts(const Buffer& buffer, const Parameter& parameter, int64_t index,
                    std::vector<StoredTensor>& out) {
  const auto local = bytes_of(buffer, parameter);
  const auto [begin, end] = *parameter.experts;
  const size_t expert_bytes = end > begin ? local.size() / static_cast<size_t>(end - begin) : 0;
  for (int64_t expert = 0; expert < parameter.shape[0]; ++expert) {
    StoredTensor tensor{.name = buffer.prefix + expert_name(parameter.name, expert),
                        .dtype = dtype_of(buffer.flat),
                        .shape = {parameter.shape.begin() + 1, parameter.shape.end()},
                        .is_expert = true,
                        .turn = index + expert,
                        .is_local = begin <= expert && expert < end,
                        .bytes = {}};
    if (tensor.is_local) {
      tensor.bytes =
          local.subspan(static_cast<size_t>(expert - begin) * expert_bytes, expert_bytes);
    }
    out.push_back(std::move(tensor));
  }
}

// `index` of a parameter: its place in the group, the same on all ranks.
void append(const Buffer& buffer, std::vector<StoredTensor>& out) {
  for (size_t i = 0; i < buffer.group.parameters.size(); ++i) {
    const Parameter& parameter = *buffer.group.parameters[i];
    const auto index = static_cast<int64_t>(i);
    if (parameter.experts) {
      append_experts(buffer, parameter, index, out);
    } else {
      out.push_back({.name = buffer.prefix + parameter.name,
                     .dtype = dtype_of(buffer.flat),
                     .shape = parameter.shape,
                     .is_expert = false,
                     .turn = index,
                     .is_local = true,
                     .bytes = bytes_of(buffer, parameter)});
    }
  }
}

}  // namespace

std::vector<StoredTensor> stored_weights(ParameterTable& table) {
  std::vector<StoredTensor> tensors;
  for (const ParameterGroup& group : table.groups()) append({group, group.master, ""}, tensors);
  return tensors;
}

std::vector<StoredTensor> stored_moments(ParameterTable& table, optim::AdamW& optimizer) {
  std::vector<StoredTensor> tensors;
  for (size_t i = 0; i < table.groups().size(); ++i) {
    const ParameterGroup& group = table.groups()[i];
    append({group, optimizer.first_moment(i), kFirstMoment}, tensors);
    append({group, optimizer.second_moment(i), kSecondMoment}, tensors);
  }
  return tensors;
}

bool is_written_here(const StoredTensor& tensor, const parallel::Mesh& mesh) {
  const parallel::Communicator& holders = tensor.is_expert ? mesh.expert_data() : mesh.data();
  return tensor.is_local && tensor.turn % holders.size() == holders.rank();
}

}  // namespace switchyard::trainer
