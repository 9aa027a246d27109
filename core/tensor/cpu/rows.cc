// Rows of dispatch and combine: copies and sums of whole rows by index, at memory speed, without
// atomics.

#include <cstring>
#include <type_traits>

#include <ATen/Dispatch.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/cpu/cpu_ops.h"

namespace switchyard {
namespace {

// Sums run in this type.
template <typename T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

constexpr int64_t kGrainBytes = 64 * 1024;  // below this a thread costs more than it saves

int64_t grain_rows(int64_t row_bytes) {
  return std::max<int64_t>(1, kGrainBytes / std::max<int64_t>(1, row_bytes));
}

#define SY_DISPATCH_ROWS(type, name, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, type, name, __VA_ARGS__)

// out += scale * row, in the accumulator type.
template <typename T>
void add_scaled(Accumulator<T>* out, const T* row, Accumulator<T> scale, int64_t width) {
  for (int64_t d = 0; d < width; ++d) out[d] += scale * static_cast<Accumulator<T>>(row[d]);
}

// n, K and D of a row operation.
struct Sizes {
  int64_t rows, choices, width;
};

// `weight` null: all ones.
template <typename T>
void sum_rows_kernel(const T* source, const Accumulator<T>* weight, const int64_t* position, T* out,
                     Sizes sizes) {
  const auto [rows, choices, width] = sizes;
  const int64_t row_bytes = width * choices * static_cast<int64_t>(sizeof(T));
  at::parallel_for(0, rows, grain_rows(row_bytes), [=](int64_t begin, int64_t end) {
    std::vector<Accumulator<T>> sum(width);
    for (int64_t i = begin; i < end; ++i) {
      std::fill(sum.begin(), sum.end(), Accumulator<T>{0});
      for (int64_t j = i * choices; j < (i + 1) * choices; ++j) {
        if (position[j] < 0) continue;
        add_scaled<T>(sum.data(), source + position[j] * width, weight ? weight[j] : 1, width);
      }
      for (int64_t d = 0; d < width; ++d) out[i * width + d] = static_cast<T>(sum[d]);
    }
  });
}

template <typename T>
struct WeightedSumBackward {
  const T* grad;
  const T* source;
  const Accumulator<T>* weight;
  const int64_t* position;
  T* grad_rows;
  Accumulator<T>* grad_weight;
};

template <typename T>
void weighted_sum_backward_kernel(const WeightedSumBackward<T>& k, Sizes sizes) {
  const auto [rows, choices, width] = sizes;
  const int64_t row_bytes = 2 * width * choices * static_cast<int64_t>(sizeof(T));
  at::parallel_for(0, rows, grain_rows(row_bytes), [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* dy = k.grad + i * width;
      for (int64_t j = i * choices; j < (i + 1) * choices; ++j) {
        k.grad_weight[j] = 0;
        if (k.position[j] < 0) continue;
        const T* row = k.source + k.position[j] * width;
        T* out = k.grad_rows + k.position[j] * width;
        // Eight partial sums: a fixed order that the compiler can vectorise.
        Accumulator<T> partial[8] = {};
        for (int64_t d = 0; d < width; ++d) {
          const auto g = static_cast<Accumulator<T>>(dy[d]);
          partial[d % 8] += g * static_cast<Accumulator<T>>(row[d]);
          out[d] = static_cast<T>(k.weight[j] * g);
        }
        for (const auto sum : partial) k.grad_weight[j] += sum;
      }
    }
  });
}

}  // namespace

at::Tensor CpuOps::gather_rows(const at::Tensor& source_RD, const at::Tensor& index) const {
  SY_CHECK(source_RD.is_contiguous() && index.is_contiguous(), "rows must be contiguous");
  const int64_t row_bytes = source_RD.size(1) * static_cast<int64_t>(source_RD.element_size());
  const at::Tensor out = at::empty({index.size(0), source_RD.size(1)}, source_RD.options());
  const auto* from = static_cast<const char*>(source_RD.const_data_ptr());
  auto* to = static_cast<char*>(out.mutable_data_ptr());
  const int64_t* at_row = index.const_data_ptr<int64_t>();
  at::parallel_for(0, index.size(0), grain_rows(row_bytes), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (at_row[i] < 0)
        std::memset(to + i * row_bytes, 0, row_bytes);
      else
        std::memcpy(to + i * row_bytes, from + at_row[i] * row_bytes, row_bytes);
    }
  });
  return out;
}

at::Tensor CpuOps::sum_rows(const at::Tensor& source_RD, const at::Tensor& position_TK,
                            const at::Tensor& weight_TK) const {
  const at::Tensor rows = source_RD.contiguous(), position = position_TK.contiguous();
  const at::Tensor weight = weight_TK.defined() ? weight_TK.contiguous() : at::Tensor();
  at::Tensor out = at::empty({position.size(0), rows.size(1)}, rows.options());
  SY_DISPATCH_ROWS(rows.scalar_type(), "sum_rows", [&] {
    using Sum = Accumulator<scalar_t>;
    sum_rows_kernel<scalar_t>(rows.const_data_ptr<scalar_t>(),
                              weight.defined() ? weight.const_data_ptr<Sum>() : nullptr,
                              position.const_data_ptr<int64_t>(), out.mutable_data_ptr<scalar_t>(),
                              {position.size(0), position.size(1), rows.size(1)});
  });
  return out;
}

DeviceOps::SumGradients CpuOps::sum_rows_backward(const at::Tensor& dy_TD,
                                                  const WeightedRows& rows) const {
  const at::Tensor dy = dy_TD.contiguous(), weight = rows.weight_TK.contiguous();
  SumGradients result{at::empty_like(rows.source_RD), at::empty_like(weight)};
  SY_DISPATCH_ROWS(dy.scalar_type(), "sum_rows_backward", [&] {
    using Sum = Accumulator<scalar_t>;
    weighted_sum_backward_kernel<scalar_t>(
        {dy.const_data_ptr<scalar_t>(), rows.source_RD.const_data_ptr<scalar_t>(),
         weight.const_data_ptr<Sum>(), rows.position_TK.const_data_ptr<int64_t>(),
         result.source_RD.mutable_data_ptr<scalar_t>(), result.weight_TK.mutable_data_ptr<Sum>()},
        {weight.size(0), weight.size(1), dy.size(1)});
  });
  return result;
}

}  // namespace switchyard
