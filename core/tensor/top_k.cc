#include "core/tensor/top_k.h"

#include "core/tensor/aten.h"

namespace switchyard {
namespace {

// Columns of the k largest of `row`, by insertion into a short sorted list: one comparison for most
// columns. Scanning upwards and moving up only past smaller values leaves ties with the lowest.
template <typename T>
void best_of_row(const T* row, int64_t columns, int64_t k, int64_t* id) {
  int64_t held = 0;
  for (int64_t i = 0; i < columns; ++i) {
    if (held == k && !(row[i] > row[id[k - 1]])) continue;
    int64_t at = held < k ? held++ : k - 1;
    for (; at > 0 && row[i] > row[id[at - 1]]; --at) id[at] = id[at - 1];
    id[at] = i;
  }
}

}  // namespace

at::Tensor top_k_lowest_id(const at::Tensor& score_TN, int64_t k) {
  const at::Tensor score = score_TN.detach().contiguous();
  const int64_t rows = score.size(0), columns = score.size(1);
  at::Tensor ids = at::empty({rows, k}, at::kLong);
  auto* id = ids.mutable_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES(score.scalar_type(), "top_k_lowest_id", [&] {
    const auto* scores = score.const_data_ptr<scalar_t>();
    at::parallel_for(0, rows, /*grain=*/256, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        best_of_row(scores + row * columns, columns, k, id + row * k);
      }
    });
  });
  return ids;
}

}  // namespace switchyard
