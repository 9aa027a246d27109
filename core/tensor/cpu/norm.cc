#include "core/tensor/aten.h"
#include "core/tensor/cpu/cpu_ops.h"
#include "core/tensor/op_support.h"

namespace switchyard {
namespace {

// Rows whose weight gradients are summed together first: a fixed number, so that the result does
// not depend on the number of threads.
constexpr int64_t kRowsPerPart = 64;

}  // namespace

DeviceOps::Normed CpuOps::rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps,
                                   bool cast_first) const {
  const int64_t rows = x_TD.size(0), features = x_TD.size(1);
  const at::TensorOptions exact = x_TD.options().dtype(exact_type(x_TD.scalar_type()));
  Normed result{at::empty_like(x_TD), at::empty({rows}, exact)};
  with_element_type(x_TD.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = elements<const T>(x_TD), *weight = elements<const T>(weight_D);
    T* out = elements<T>(result.y_TD);
    auto* r = elements<Exact<T>>(result.r_T);
    at::parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        r[i] = rms_norm_forward<T>({in + i * features, weight, out + i * features, eps, cast_first},
                                   features);
      }
    });
  });
  return result;
}

DeviceOps::NormGradients CpuOps::rms_norm_backward(const at::Tensor& dy_TD, const NormInput& input,
                                                   bool needs_weight) const {
  const auto& [x_TD, weight_D, r_T] = input;
  const int64_t rows = x_TD.size(0), features = x_TD.size(1);
  const int64_t parts = (rows + kRowsPerPart - 1) / kRowsPerPart;
  NormGradients gradients{at::empty_like(x_TD), {}};
  at::Tensor partial;
  if (needs_weight) partial = at::zeros({parts, features}, r_T.options());
  with_element_type(x_TD.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = elements<const T>(x_TD), *dy = elements<const T>(dy_TD);
    const T* weight = elements<const T>(weight_D);
    T* dx = elements<T>(gradients.x_TD);
    const auto* r = elements<const Exact<T>>(r_T);
    at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first * kRowsPerPart; i < std::min(last * kRowsPerPart, rows); ++i) {
        Exact<T>* d_weight =
            needs_weight ? elements<Exact<T>>(partial) + i / kRowsPerPart * features : nullptr;
        const int64_t at_row = i * features;
        switchyard::rms_norm_backward<T>(
            {in + at_row, weight, dy + at_row, r[i], dx + at_row, d_weight}, features);
      }
    });
  });
  if (needs_weight) gradients.weight_D = partial.sum(0);
  return gradients;
}

}  // namespace switchyard
