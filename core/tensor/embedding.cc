
#include "core/tensor/aten.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

// grad[ids[t]] += dy[t] in the order of t: every thread walks all rows and owns some of the
// columns, so the sums do not depend on the number of threads.
void scatter_rows(const at::Tensor& dy, const at::Tensor& ids, const at::Tensor& grad) {
  const int64_t features = dy.size(1), rows = dy.size(0);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  constexpr int64_t kColumns = 64;
  with_element_type(dy.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = elements<const T>(dy);
    auto* out = elements<Exact<T>>(grad);
    const int64_t blocks = (features + kColumns - 1) / kColumns;
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      const int64_t begin = first * kColumns, end = std::min(last * kColumns, features);
      for (int64_t row = 0; row < rows; ++row) {
        add_to(out + id[row] * features + begin, in + row * features + begin, end - begin);
      }
    });
  });
}

}  // namespace

at::Tensor embedding(const at::Tensor& ids, Parameter& weight) {
  SY_CHECK(ids.scalar_type() == at::kLong, "embedding {}: ids are {}, not int64", weight.name,
           at::toString(ids.scalar_type()));
  const auto backward = [ids, &weight](const at::Tensor& dy, const std::vector<bool>&) {
    scatter_rows(as_matrix(dy).contiguous(), ids.contiguous(), weight.grad);
    return std::vector<at::Tensor>();
  };
  return differentiable("embedding", {}, {&weight}, at::embedding(weight.value.detach(), ids),
                        backward);
}

}  // namespace switchyard
