#include "core/tensor/aten.h"
#include "core/tensor/cpu/cpu_ops.h"
#include "core/tensor/op_support.h"

namespace switchyard {

void CpuOps::activate(Activation kind, const at::Tensor& h, const at::Tensor& out) const {
  const int64_t hidden = out.size(1), width = h.size(1);
  with_element_type(h.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, h.size(0), 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* gate = elements<const T>(h) + i * width;
        activation_forward(kind, gate, gate + hidden, elements<T>(out) + i * hidden, hidden);
      }
    });
  });
}

void CpuOps::activate_backward(Activation kind, const at::Tensor& h, const at::Tensor& d_out,
                               const at::Tensor& dh) const {
  const int64_t hidden = d_out.size(1), width = h.size(1);
  with_element_type(h.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, h.size(0), 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* gate = elements<const T>(h) + i * width;
        T* d_gate = elements<T>(dh) + i * width;
        T* d = elements<T>(d_out) + i * hidden;
        activation_backward<T>(kind, {gate, gate + hidden, d, d_gate, d_gate + hidden, d}, hidden);
      }
    });
  });
}

}  // namespace switchyard
