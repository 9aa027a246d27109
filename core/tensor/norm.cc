
#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

// Rows whose weight gradients are summed together first: a fixed number, so that the result does
// not depend on the number of threads.
constexpr int64_t kRowsPerPart = 64;

struct NormResult {
  at::Tensor y, r_T;  // like x; one over the root mean square of each row
};

NormResult norm_forward(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps,
                        NormOrder order) {
  const bool cast_first = order == NormOrder::kCastThenScale;
  const int64_t rows = x_TD.size(0), features = x_TD.size(1);
  NormResult result{at::empty_like(x_TD), at::empty({rows}, exact_type(x_TD.scalar_type()))};
  with_element_type(x_TD.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = elements<const T>(x_TD), *weight = elements<const T>(weight_D);
    T* out = elements<T>(result.y);
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

struct NormGradients {
  at::Tensor x, weight;  // weight: float32 or float64, undefined when not asked for
};

NormGradients norm_backward(const at::Tensor& dy_TD, const at::Tensor& x_TD, const at::Tensor& r_T,
                            const at::Tensor& weight_D, bool needs_weight) {
  const int64_t rows = x_TD.size(0), features = x_TD.size(1);
  const int64_t parts = (rows + kRowsPerPart - 1) / kRowsPerPart;
  NormGradients gradients{at::empty_like(x_TD), {}};
  at::Tensor partial;
  if (needs_weight) partial = at::zeros({parts, features}, r_T.options());
  with_element_type(x_TD.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T *in = elements<const T>(x_TD), *dy = elements<const T>(dy_TD);
    T* dx = elements<T>(gradients.x);
    const auto* r = elements<const Exact<T>>(r_T);
    at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first * kRowsPerPart; i < std::min(last * kRowsPerPart, rows); ++i) {
        Exact<T>* d_weight =
            needs_weight ? elements<Exact<T>>(partial) + i / kRowsPerPart * features : nullptr;
        const int64_t at_row = i * features;
        rms_norm_backward<T>(
            {in + at_row, elements<const T>(weight_D), dy + at_row, r[i], dx + at_row, d_weight},
            features);
      }
    });
  });
  if (needs_weight) gradients.weight = partial.sum(0);
  return gradients;
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, Parameter& weight, double eps, NormOrder order) {
  SY_CHECK(x.scalar_type() == weight.value.scalar_type() && x.size(-1) == weight.value.numel(),
           "rms_norm {}: input {} [.., {}], weight {} [{}]", weight.name,
           at::toString(x.scalar_type()), x.size(-1), at::toString(weight.value.scalar_type()),
           weight.value.numel());
  const at::Tensor x_TD = as_matrix(x.detach()).contiguous();
  const NormResult result = norm_forward(x_TD, weight.value.detach(), eps, order);
  const auto backward = [x_TD, r_T = result.r_T, &weight](const at::Tensor& dy,
                                                          const std::vector<bool>& needs) {
    const NormGradients gradients =
        norm_backward(as_matrix(dy).contiguous(), x_TD, r_T, weight.value.detach(), needs[1]);
    if (needs[1]) weight.grad.add_(gradients.weight);
    return std::vector{gradients.x.view(dy.sizes())};
  };
  return differentiable("rms_norm", {x}, {&weight}, result.y.view(x.sizes()), backward);
}

}  // namespace switchyard
