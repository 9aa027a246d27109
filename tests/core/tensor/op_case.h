#pragma once
// One hot operation beside its reference: values and all gradients are compared.

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/tensor/parameter.h"

namespace switchyard::testing {

struct OpCase {
  // Shape of the input; empty: the operation has none.
  std::vector<int64_t> input;
  std::vector<std::vector<int64_t>> weights;
  // The operation; parameters in the order of `weights`.
  std::function<at::Tensor(const at::Tensor& x, std::deque<Parameter>& weights)> op;
  // Its twin in plain ATen.
  std::function<at::Tensor(const at::Tensor& x, const std::vector<at::Tensor>& weights)> reference;
  bool strided_input = false;  // hand over a non-contiguous view
};

// A table with the given shapes under the names w0, w1, ..., filled with reproducible numbers.
void fill_table(ParameterTable& table, const std::vector<std::vector<int64_t>>& shapes,
                at::ScalarType compute, bool trains = true);

// Reproducible normal numbers, scaled, contiguous.
at::Tensor draw(const std::vector<int64_t>& shape, at::ScalarType type, uint64_t seed = 1);

// op in `compute` against the reference in float64 from the same inputs: output, input gradient
// and every Parameter::grad, at the tolerance of `compute`; with the CPU's own operations, and once
// more with the plain ones.
void expect_agrees(const OpCase& c, at::ScalarType compute);

// Gradients against central differences in float64, both ways.
void expect_matches_finite_differences(const OpCase& c);

}  // namespace switchyard::testing
