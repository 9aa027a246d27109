
#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

// Reads x [B, S, H, d] in place whatever the strides of its first three dimensions, so that views
// into a joint query-key-value product need no copy. Returns a contiguous tensor.
at::Tensor rotate(const at::Tensor& x_BSHd, const at::Tensor& cos, const at::Tensor& sin,
                  int direction) {
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
        const RopeTable<T> table{elements<const Exact<T>>(cos) + position * half,
                                 elements<const Exact<T>>(sin) + position * half,
                                 static_cast<Exact<T>>(direction)};
        const T* row = in + batch * x.stride(0) + position * x.stride(1);
        for (int64_t head = 0; head < heads; ++head) {
          rope_row(row + head * x.stride(2), table, out + (token * heads + head) * width, half);
        }
      }
    });
  });
  return y;
}

}  // namespace

at::Tensor rope(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  SY_CHECK(x.dim() == 4 && x.size(3) % 2 == 0, "rope: input must be [B, S, H, even width]");
  SY_CHECK(cos.sizes() == at::IntArrayRef({x.size(1), half}) && sin.sizes() == cos.sizes(),
           "rope: the tables must be [{}, {}]", x.size(1), half);
  const at::ScalarType type = exact_type(x.scalar_type());
  const at::Tensor cosine = cos.to(type).contiguous(), sine = sin.to(type).contiguous();
  const auto backward = [cosine, sine](const at::Tensor& dy, const std::vector<bool>&) {
    return std::vector{rotate(dy, cosine, sine, -1)};
  };
  return differentiable("rope", {x}, rotate(x.detach(), cosine, sine, 1), backward);
}

}  // namespace switchyard
