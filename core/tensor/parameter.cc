#include "core/tensor/parameter.h"

#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "core/base/errors.h"
#include "core/base/fingerprint.h"
#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"

namespace switchyard {
namespace {

// Each parameter starts on a 64-byte line (of float32, and more of the wider types) for the vector
// kernels. The padding between parameters stays zero in every buffer.
constexpr int64_t kAlignElements = 32;

int64_t padded(int64_t count) {
  return (count + kAlignElements - 1) / kAlignElements * kAlignElements;
}

int64_t product(const std::vector<int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
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

// `copy` of the parameter as a tensor of autograd's graph.
at::Tensor as_function_of(Parameter& parameter, const at::Tensor& copy) {
  const auto backward = [&parameter](const at::Tensor& gradient, const std::vector<bool>&) {
    parameter.grad.add_(gradient);
    return std::vector{at::Tensor()};
  };
  return differentiable("use", {parameter.value}, copy, backward);
}

at::Tensor view_of(const at::Tensor& flat, int64_t offset, const Parameter& parameter) {
  return flat.narrow(0, offset, parameter.local_count()).view(parameter.local_shape()).detach();
}

void allocate_group(ParameterGroup& group, at::ScalarType compute) {
  const at::ScalarType exact = compute == at::kDouble ? at::kDouble : at::kFloat;
  int64_t count = 0;
  for (const Parameter* parameter : group.parameters) count += padded(parameter->local_count());
  group.master = flat_zeros(count, exact);
  group.grad = flat_zeros(count, exact);
  group.value = compute == exact ? group.master : flat_zeros(count, compute);
  int64_t offset = 0;
  for (Parameter* parameter : group.parameters) {
    parameter->master = view_of(group.master, offset, *parameter);
    parameter->grad = view_of(group.grad, offset, *parameter);
    parameter->value = view_of(group.value, offset, *parameter).set_requires_grad(true);
    offset += padded(parameter->local_count());
  }
}

// One draw of unit scale.
double draw(const Init& init, const Random& random, int64_t index) {
  switch (init.kind) {
    case Init::kTruncatedNormal:
      return random.truncated_normal(index, init.cut);
    case Init::kUniform:
      return 2.0 * random.uniform(index) - 1;
    default:
      return random.normal(index);
  }
}

void draw_values(Parameter& parameter, const Random& random) {
  const Init& init = parameter.init;
  const int64_t narrow = init.narrow_rows * (product(parameter.shape) / parameter.shape[0]);
  const int64_t first =
      parameter.experts ? parameter.experts->begin * (product(parameter.shape) / parameter.shape[0])
                        : 0;
  AT_DISPATCH_FLOATING_TYPES(parameter.master.scalar_type(), "initialize", [&] {
    scalar_t* out = parameter.master.data_ptr<scalar_t>();
    at::parallel_for(0, parameter.local_count(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const double scale = init.value * (first + i < narrow ? init.narrow_by : 1);
        out[i] = static_cast<scalar_t>(draw(init, random, first + i) * scale);
      }
    });
  });
}

}  // namespace

std::vector<int64_t> Parameter::local_shape() const {
  std::vector<int64_t> local = shape;
  if (experts) local[0] = experts->end - experts->begin;
  return local;
}

int64_t Parameter::local_count() const { return product(local_shape()); }

void ParameterGroup::refresh_value() {
  if (!value.is_alias_of(master)) value.copy_(master);
}

Parameter& ParameterTable::add(Parameter parameter) {
  SY_CHECK(groups_.empty(), "parameter {}: registered after allocate()", parameter.name);
  SY_CHECK(names_.insert(parameter.name).second, "two parameters are named {}", parameter.name);
  if (parameter.experts) {
    const auto [begin, end] = *parameter.experts;
    SY_CHECK(!parameter.shape.empty() && 0 <= begin && begin <= end && end <= parameter.shape[0],
             "parameter {}: experts {}..{} are not a slice of its first dimension", parameter.name,
             begin, end);
  }
  return parameters_.emplace_back(std::move(parameter));
}

void ParameterTable::allocate(at::ScalarType compute) {
  SY_CHECK(groups_.empty(), "allocate() was called twice");
  SY_CHECK(compute == at::kBFloat16 || compute == at::kFloat || compute == at::kDouble,
           "compute type {} is not bfloat16, float32 or float64", at::toString(compute));
  for (const Replicas replicas : {Replicas::kData, Replicas::kExpertData}) {
    for (const bool decay : {true, false}) {
      ParameterGroup group{replicas, decay, {}, {}, {}, {}};
      for (Parameter& parameter : parameters_) {
        if (parameter.replicas() == replicas && parameter.decay == decay) {
          group.parameters.push_back(&parameter);
        }
      }
      if (group.parameters.empty()) continue;
      allocate_group(group, compute);
      groups_.push_back(std::move(group));
    }
  }
}

void ParameterTable::initialize(uint64_t seed) {
  for (Parameter& parameter : parameters_) {
    SY_CHECK(parameter.master.defined(), "parameter {}: initialize() before allocate()",
             parameter.name);
    if (parameter.init.kind == Init::kConstant) {
      parameter.master.fill_(parameter.init.value);
    } else {
      const uint64_t stream = Fingerprint().add(parameter.name).value();
      draw_values(parameter, Random(seed, Stream::kInit, stream));
    }
  }
  for (ParameterGroup& group : groups_) group.refresh_value();
}

void ParameterTable::zero_gradients() {
  for (ParameterGroup& group : groups_) group.grad.zero_();
}

Scope Scope::operator/(const std::string& name) const {
  Scope inner(*table_);
  inner.path_ = path_.empty() ? name : path_ + "." + name;
  return inner;
}

Parameter& Scope::parameter(const std::string& name, std::vector<int64_t> shape, Init init,
                            bool decay) const {
  Parameter parameter;
  parameter.name = (*this / name).path_;
  parameter.shape = std::move(shape);
  parameter.init = init;
  parameter.decay = decay;
  return table_->add(std::move(parameter));
}

Parameter& Scope::expert_parameter(const std::string& name, std::vector<int64_t> shape, Slice held,
                                   Init init, bool decay) const {
  Parameter parameter;
  parameter.name = (*this / name).path_;
  parameter.shape = std::move(shape);
  parameter.experts = held;
  parameter.init = init;
  parameter.decay = decay;
  return table_->add(std::move(parameter));
}

at::Tensor use(Parameter& parameter, at::ScalarType type) {
  return as_function_of(parameter, parameter.value.detach().to(type));
}

at::Tensor use_master(Parameter& parameter, at::ScalarType type) {
  return as_function_of(parameter, parameter.master.detach().to(type));
}

}  // namespace switchyard
