#include "core/tensor/parameter.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"

namespace switchyard {
namespace {

// Each parameter starts on a 64-byte line (of float32, and more of the wider types) for the vector
// kernels. The padding between parameters stays zero in every buffer.
constexpr int64_t kAlignElements = 32;

int64_t padded(int64_t count) {
  return (count + kAlignElements - 1) / kAlignElements * kAlignElements;
}

// Zeros in huge pages where the kernel grants them: these buffers are walked from end to end in
// every step.
at::Tensor flat_zeros(int64_t count, at::ScalarType type) {
  at::Tensor buffer = at::empty({count}, type);
  constexpr uintptr_t kHugePage = 2 << 20;
  const auto begin = reinterpret_cast<uintptr_t>(buffer.data_ptr());
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + buffer.nbytes()) / kHugePage * kHugePage;
  if (last > first) {  // advice only: a refusal changes nothing but speed
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
  return buffer.zero_();
}

at::Tensor view_at(const at::Tensor& flat, int64_t offset, const Parameter& parameter) {
  return flat.narrow(0, offset, parameter.local_count()).view(parameter.local_shape()).detach();
}

void allocate_group(ParameterGroup& group, at::ScalarType compute) {
  const at::ScalarType exact = exact_type(compute);
  int64_t count = 0;
  for (const Parameter* parameter : group.parameters) count += padded(parameter->local_count());
  group.master = flat_zeros(count, exact);
  if (group.trains) group.grad = flat_zeros(count, exact);
  group.value = compute == exact ? group.master : flat_zeros(count, compute);
  int64_t offset = 0;
  for (Parameter* parameter : group.parameters) {
    parameter->master = view_at(group.master, offset, *parameter);
    if (group.trains) parameter->grad = view_at(group.grad, offset, *parameter);
    parameter->value = view_at(group.value, offset, *parameter).set_requires_grad(group.trains);
    offset += padded(parameter->local_count());
  }
}

void check_parts(const Parameter& parameter) {
  const auto dim = static_cast<size_t>(parameter.part_dim);
  int64_t size = 0;
  for (const Part& part : parameter.parts) size += part.size;
  SY_CHECK(dim < parameter.shape.size() && size == parameter.shape[dim],
           "parameter {}: parts of {} in all are not dimension {} of its shape", parameter.name,
           size, dim);
  for (const Cut& cut : parameter.cuts) {
    SY_CHECK(std::ranges::count(parameter.cuts, cut.dim, &Cut::dim) == 1,
             "parameter {}: dimension {} is cut twice", parameter.name, cut.dim);
  }
  parameter.pieces();  // which checks that they can be dealt
}

}  // namespace

void ParameterGroup::refresh_value() {
  if (!value.is_alias_of(master)) value.copy_(master);
}

void GradientSink::begin_step(std::deque<Parameter>& parameters) {
  forward_has_ended_ = false;
  for (Parameter& parameter : parameters) parameter.progress = {};
}

void GradientSink::arrived(Parameter& parameter) {
  --parameter.progress.outstanding;
  if (forward_has_ended_) complete_if_nothing_is_outstanding(parameter);
}

void GradientSink::end_forward(std::deque<Parameter>& parameters) {
  forward_has_ended_ = true;
  for (Parameter& parameter : parameters) {
    if (parameter.trains) complete_if_nothing_is_outstanding(parameter);
  }
}

void GradientSink::complete_if_nothing_is_outstanding(Parameter& parameter) {
  if (parameter.progress.outstanding > 0 || parameter.progress.is_complete) return;
  parameter.progress.is_complete = true;
  if (ready) ready(parameter);
}

Parameter& ParameterTable::add(Parameter parameter) {
  SY_CHECK(groups_.empty(), "parameter {}: registered after allocate()", parameter.name);
  SY_CHECK(names_.insert(parameter.name).second, "two parameters are named {}", parameter.name);
  check_parts(parameter);
  return parameters_.emplace_back(std::move(parameter));
}

void ParameterTable::allocate(at::ScalarType compute) {
  SY_CHECK(groups_.empty(), "allocate() was called twice");
  SY_CHECK(compute == at::kBFloat16 || compute == at::kFloat || compute == at::kDouble,
           "compute type {} is not bfloat16, float32 or float64", at::toString(compute));
  std::map<std::tuple<bool, AxisSet, AxisSet, bool, int>, std::vector<Parameter*>> alike;
  for (Parameter& parameter : parameters_) {
    parameter.sink = sink_.get();
    // Of the stages all may hold it, or some: its sum is over those.
    const bool is_shared = parameter.summed.contains(Axis::kPipeline);
    const int stages = is_shared ? parameter.layout[Axis::kPipeline].size : 1;
    alike[{!parameter.trains, parameter.summed, parameter.cut_axes(), !parameter.decay, stages}]
        .push_back(&parameter);
  }
  for (auto& [key, parameters] : alike) {
    const auto& [rests, summed, cut, no_decay, stages] = key;
    groups_.push_back({summed, cut, !no_decay, !rests, std::move(parameters), {}, {}, {}});
    allocate_group(groups_.back(), compute);
  }
}

std::span<ParameterGroup> ParameterTable::trained_groups() {
  const auto trained = std::ranges::count(groups_, true, &ParameterGroup::trains);
  return std::span(groups_).first(static_cast<size_t>(trained));
}

void ParameterTable::zero_gradients() {
  for (ParameterGroup& group : trained_groups()) group.grad.zero_();
  sink_->begin_step(parameters_);
}

void ParameterTable::end_forward() { sink_->end_forward(parameters_); }

void ParameterTable::on_gradient_ready(std::function<void(Parameter&)> ready) {
  sink_->ready = std::move(ready);
}

}  // namespace switchyard
