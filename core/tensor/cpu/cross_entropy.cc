#include <algorithm>

#include "core/tensor/aten.h"
#include "core/tensor/cpu/cpu_ops.h"
#include "core/tensor/op_support.h"

namespace switchyard {

void CpuOps::cross_entropy(const at::Tensor& logits_RV, const TargetRows& rows,
                           bool with_gradient) const {
  const int64_t vocabulary = logits_RV.size(1);
  const int64_t* targets = rows.target_R.const_data_ptr<int64_t>();
  with_element_type(logits_RV.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    auto* nll = elements<Exact<T>>(rows.nll_R);
    auto* log_sum = rows.log_sum_R.defined() ? elements<Exact<T>>(rows.log_sum_R) : nullptr;
    at::parallel_for(0, logits_RV.size(0), 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        SY_CHECK(targets[i] < vocabulary, "cross-entropy: target {} is not below {}", targets[i],
                 vocabulary);
        T* row = elements<T>(logits_RV) + i * vocabulary;
        CrossEntropy<T> loss{0, 0};
        if (targets[i] < 0) {
          if (with_gradient) std::fill_n(row, vocabulary, T{});
        } else if (with_gradient) {
          loss =
              cross_entropy_backward(row, vocabulary, targets[i], rows.scale, rows.z_coefficient);
        } else {
          loss = switchyard::cross_entropy(row, vocabulary, targets[i]);
        }
        nll[i] = loss.nll;
        if (log_sum) log_sum[i] = loss.log_sum;
      }
    });
  });
}

}  // namespace switchyard
