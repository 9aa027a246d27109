#pragma once
// What the hot operations share: matrix views and the kernels' element types. For .cc files of this
// folder.

#include <ATen/core/Tensor.h>

#include "core/base/errors.h"
#include "core/tensor/cpu/kernels.h"

namespace switchyard {

// [..., n] -> [rows, n], a view where the strides allow.
inline at::Tensor as_matrix(const at::Tensor& x) {
  return x.dim() == 2 ? x : x.reshape({-1, x.size(-1)});
}

// Statistics and small gradients: float32, float64 for float64.
inline at::ScalarType exact_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

// Elements of a contiguous CPU tensor as the kernels see them.
template <typename T>
T* elements(const at::Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

// Calls f(T{}) with the kernels' element type for `type`.
template <typename F>
void with_element_type(at::ScalarType type, F&& f) {
  switch (type) {
    case at::kFloat:
      return f(float{});
    case at::kDouble:
      return f(double{});
    case at::kBFloat16:
      return f(BFloat16{});
    default:
      SY_CHECK(false, "no kernel for {}; expected float32, float64 or bfloat16",
               at::toString(type));
  }
}

}  // namespace switchyard
