#include "core/tensor/aten.h"
#include "core/tensor/cpu/cpu_ops.h"
#include "core/tensor/op_support.h"

namespace switchyard {

// Reads x in place whatever the strides of its first three dimensions, so that views into a joint
// query-key-value product need no copy.
at::Tensor CpuOps::rotate(const at::Tensor& x_BSHd, const at::Tensor& cos_Sd,
                          const at::Tensor& sin_Sd) const {
  const at::Tensor x = x_BSHd.stride(3) == 1 ? x_BSHd : x_BSHd.contiguous();
  const int64_t length = x.size(1), heads = x.size(2), width = x.size(3), half = width / 2;
  at::Tensor y = at::empty(x.sizes(), x.options());
  with_element_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = elements<const T>(x);
    T* out = elements<T>(y);
    at::parallel_for(0, x.size(0) * length, 16, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; ++token) {
        const int64_t batch = token / length, position = token % length;
        const RopeTable<T> table{elements<const Exact<T>>(cos_Sd) + position * half,
                                 elements<const Exact<T>>(sin_Sd) + position * half};
        const T* row = in + batch * x.stride(0) + position * x.stride(1);
        for (int64_t head = 0; head < heads; ++head) {
          rope_row(row + head * x.stride(2), table, out + (token * heads + head) * width, half);
        }
      }
    });
  });
  return y;
}

}  // namespace switchyard
