#include "core/tensor/aten.h"
#include "core/tensor/cpu/cpu_ops.h"
#include "core/tensor/op_support.h"

namespace switchyard {

// Every thread walks all rows and owns some of the columns, so that the order of the sums does not
// depend on the number of threads.
void CpuOps::add_rows(const at::Tensor& rows, const at::Tensor& index,
                      const at::Tensor& sum) const {
  const int64_t width = rows.size(1), count = rows.size(0);
  const int64_t* to = index.const_data_ptr<int64_t>();
  constexpr int64_t kColumns = 64;
  with_element_type(rows.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* in = elements<const T>(rows);
    auto* out = elements<Exact<T>>(sum);
    const int64_t blocks = (width + kColumns - 1) / kColumns;
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      const int64_t begin = first * kColumns, end = std::min(last * kColumns, width);
      for (int64_t row = 0; row < count; ++row)
        add_to(out + to[row] * width + begin, in + row * width + begin, end - begin);
    });
  });
}

}  // namespace switchyard
