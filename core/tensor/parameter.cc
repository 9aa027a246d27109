#include "core/tensor/parameter.h"

#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <ranges>
#include <tuple>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"

namespace switchyard {
namespace {

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

at::Tensor view_at(const at::Tensor& flat, const Parameter& parameter) {
  return flat.narrow(0, parameter.offset, parameter.local_count())
      .view(parameter.local_shape())
      .detach();
}

// The axis over which the group can be dealt: its ranks hold the same and see other tokens.
std::optional<Axis> axis_of_replicas(const AxisSet& summed) {
  for (const Axis axis : {Axis::kData, Axis::kExpertData})
    if (summed.contains(axis)) return axis;
  return std::nullopt;
}

// What all parameters of the group admit.
Dealing dealing_of(const ParameterGroup& group) {
  const auto& parameters = group.parameters;
  if (!group.trains || std::ranges::any_of(parameters, &Parameter::needs_whole_master))
    return Dealing::kWhole;
  return std::ranges::min(parameters, {}, &Parameter::dealing)->dealing;
}

void arrange_group(ParameterGroup& group) {
  std::vector<int64_t> sizes;
  int64_t offset = 0;
  for (Parameter* parameter : group.parameters) {
    parameter->group = &group;
    parameter->offset = offset;
    sizes.push_back(padded(parameter->local_count()));
    offset += sizes.back();
  }
  const std::optional<Axis> axis = axis_of_replicas(group.summed);
  const Place place = axis ? group.parameters.front()->layout[*axis] : Place{};
  group.deal = deal(dealing_of(group), axis.value_or(Axis::kData), place, sizes);
}

// This rank's part of the master, in memory of its own unless `value` has its type.
std::vector<Stretch> allocate_owned(const ParameterGroup& group, at::ScalarType exact) {
  const std::vector<Slice> ranges = group.deal.owned();
  int64_t count = 0;
  for (const Slice& range : ranges) count += range.size();
  const bool has_own_memory = group.value.scalar_type() != exact;
  const at::Tensor memory = has_own_memory ? flat_zeros(count, exact) : group.value;
  std::vector<Stretch> owned;
  int64_t next = 0;
  for (const Slice& range : ranges) {
    owned.push_back({range, memory.narrow(0, has_own_memory ? next : range.begin, range.size())});
    next += range.size();
  }
  return owned;
}

void allocate_parameter(Parameter& parameter, const ParameterGroup& group) {
  parameter.value = view_at(group.value, parameter).set_requires_grad(group.trains);
  if (group.trains) parameter.grad = view_at(group.grad, parameter);
  parameter.owned = stretches_within(group.owned, parameter.range());
  const bool is_whole =
      parameter.owned.size() == 1 && parameter.owned[0].range.size() == parameter.local_count();
  if (is_whole) parameter.master = parameter.owned[0].values.view(parameter.local_shape());
}

void allocate_group(ParameterGroup& group, at::ScalarType compute) {
  const at::ScalarType exact = exact_type(compute);
  group.value = flat_zeros(group.deal.count, compute);
  if (group.trains) group.grad = flat_zeros(group.deal.count, exact);
  group.owned = allocate_owned(group, exact);
  if (group.deal.dealing == Dealing::kWhole) group.master = group.owned.front().values;
  for (Parameter* parameter : group.parameters) allocate_parameter(*parameter, group);
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

std::vector<Stretch> stretches_within(std::span<const Stretch> stretches, const Slice& range) {
  std::vector<Stretch> within;
  for (const auto& [has, values] : stretches) {
    const int64_t begin = std::max(has.begin, range.begin), end = std::min(has.end, range.end);
    if (begin >= end) continue;
    within.push_back({{begin - range.begin, end - range.begin},
                      values.narrow(0, begin - has.begin, end - begin)});
  }
  return within;
}

void Parameter::store(const Slice& range, const at::Tensor& exact) {
  const at::Tensor numbers = exact.reshape(-1);
  value.detach().view(-1).narrow(0, range.begin, range.size()).copy_(numbers);
  for (const Stretch& stretch : stretches_within(owned, range))
    stretch.values.copy_(numbers.narrow(0, stretch.range.begin, stretch.range.size()));
}

std::vector<Stretch> Parameter::owned_gradient() const {
  std::vector<Stretch> sums;
  for (const auto& [range, values] : owned)
    sums.push_back({range, grad.view(-1).narrow(0, range.begin, range.size())});
  return sums;
}

at::Tensor Parameter::blank() const {
  return master.defined() ? master : at::empty(local_shape(), exact_type(value.scalar_type()));
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
  for (const auto& listener : listeners | std::views::reverse) listener(parameter);
}

Parameter& ParameterTable::add(Parameter parameter) {
  SY_CHECK(groups_.empty(), "parameter {}: registered after allocate()", parameter.name);
  SY_CHECK(names_.insert(parameter.name).second, "two parameters are named {}", parameter.name);
  check_parts(parameter);
  return parameters_.emplace_back(std::move(parameter));
}

void ParameterTable::arrange() {
  SY_CHECK(groups_.empty(), "parameters were arranged twice");
  std::map<std::tuple<bool, AxisSet, AxisSet, bool, int>, std::vector<Parameter*>> alike;
  for (Parameter& parameter : parameters_) {
    // Of the stages all may hold it, or some: its sum is over those.
    const bool is_shared = parameter.summed.contains(Axis::kPipeline);
    const int stages = is_shared ? parameter.layout[Axis::kPipeline].size : 1;
    alike[{!parameter.trains, parameter.summed, parameter.cut_axes(), !parameter.decay, stages}]
        .push_back(&parameter);
  }
  for (auto& [key, parameters] : alike) {
    const auto& [rests, summed, cut, no_decay, stages] = key;
    groups_.push_back({summed, cut, !no_decay, !rests, std::move(parameters), {}, {}, {}, {}, {}});
  }
  for (ParameterGroup& group : groups_) arrange_group(group);
}

void ParameterTable::allocate(at::ScalarType compute) {
  SY_CHECK(compute == at::kBFloat16 || compute == at::kFloat || compute == at::kDouble,
           "compute type {} is not bfloat16, float32 or float64", at::toString(compute));
  arrange();
  for (Parameter& parameter : parameters_) parameter.sink = sink_.get();
  for (ParameterGroup& group : groups_) allocate_group(group, compute);
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

void ParameterTable::on_gradient_ready(std::function<void(Parameter&)> listener) {
  sink_->listeners.push_back(std::move(listener));
}

}  // namespace switchyard
