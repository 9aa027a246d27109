// The hot operations on CPU tensors: loops over rows in several threads, with the kernels of
// core/tensor/cpu/kernels.h inside. Results do not depend on the number of threads.

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/cpu/kernels.h"
#include "core/tensor/device_ops.h"

namespace switchyard {
namespace {

// Calls f(T{}) with the kernels' element type for `type`.
template <typename F>
void with_element_type(at::ScalarType type, F&& f) {
  switch (type) {
    case at::kFloat:
      return f(float{});
    case at::kDouble:
      return f(double{});
    case at::kBFloat16:
      return f(BFloat16{});
    default:
      SY_CHECK(false, "no kernel for {}; expected float32, float64 or bfloat16",
               at::toString(type));
  }
}

// Elements of a contiguous tensor as the kernels see them.
template <typename T>
T* elements(const at::Tensor& x) {
  return static_cast<T*>(x.data_ptr());
}

// f(i) for every row i below `rows`; a thread takes at least `grain` of them.
template <typename F>
void for_each_row(int64_t rows, int64_t grain, const F& f) {
  at::parallel_for(0, rows, grain, [&f](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

// How many rows are worth a thread: it costs more than it saves below 64 KiB.
int64_t grain_of(int64_t row_bytes) {
  return std::max<int64_t>(1, 64 * 1024 / std::max<int64_t>(1, row_bytes));
}

// sum += scale * row.
template <typename T>
void add_scaled(Exact<T>* sum, const T* row, Exact<T> scale, int64_t width) {
  for (int64_t d = 0; d < width; ++d) sum[d] += scale * static_cast<Exact<T>>(row[d]);
}

class CpuOps final : public DeviceOps {
 public:
  Normed rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D, double eps,
                  bool cast_first) const override {
    const int64_t rows = x_TD.size(0), features = x_TD.size(1);
    const at::TensorOptions exact = x_TD.options().dtype(exact_type(x_TD.scalar_type()));
    Normed result{at::empty_like(x_TD), at::empty({rows}, exact)};
    with_element_type(x_TD.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const T *x = elements<const T>(x_TD), *weight = elements<const T>(weight_D);
      T* y = elements<T>(result.y_TD);
      auto* r = elements<Exact<T>>(result.r_T);
      for_each_row(rows, 16, [=](int64_t i) {
        const int64_t at_row = i * features;
        r[i] = rms_norm_forward(x + at_row, weight, y + at_row, eps, cast_first, features);
      });
    });
    return result;
  }

  // Weight gradients of so many rows are summed together first: a fixed number, so that the result
  // does not depend on the number of threads.
  static constexpr int64_t kRowsPerPart = 64;

  NormGradients rms_norm_backward(const at::Tensor& dy_TD, const NormInput& input,
                                  bool needs_weight) const override {
    const auto& [x_TD, weight_D, r_T] = input;
    const int64_t rows = x_TD.size(0), features = x_TD.size(1);
    const int64_t parts = (rows + kRowsPerPart - 1) / kRowsPerPart;
    NormGradients gradients{at::empty_like(x_TD), {}};
    at::Tensor partial;
    if (needs_weight) partial = at::zeros({parts, features}, r_T.options());
    with_element_type(x_TD.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const T *x = elements<const T>(x_TD), *dy = elements<const T>(dy_TD);
      const T* weight = elements<const T>(weight_D);
      T* dx = elements<T>(gradients.x_TD);
      const auto* r = elements<const Exact<T>>(r_T);
      for_each_row(parts, 1, [&](int64_t part) {
        auto* d_weight = needs_weight ? elements<Exact<T>>(partial) + part * features : nullptr;
        const int64_t first = part * kRowsPerPart, end = std::min(first + kRowsPerPart, rows);
        for (int64_t i = first; i < end; ++i) {
          const int64_t at_row = i * features;
          switchyard::rms_norm_backward<T>(
              {x + at_row, weight, dy + at_row, r[i], dx + at_row, d_weight}, features);
        }
      });
    });
    if (needs_weight) gradients.weight_D = partial.sum(0);
    return gradients;
  }

  // Reads x in place whatever the strides of its first three dimensions, so that views into a joint
  // query-key-value product need no copy.
  at::Tensor rotate(const at::Tensor& x_BSHd, const at::Tensor& cos_Sd,
                    const at::Tensor& sin_Sd) const override {
    const at::Tensor x = x_BSHd.stride(3) == 1 ? x_BSHd : x_BSHd.contiguous();
    const int64_t length = x.size(1), heads = x.size(2), width = x.size(3), half = width / 2;
    at::Tensor y = at::empty(x.sizes(), x.options());
    with_element_type(x.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      const T* in = elements<const T>(x);
      T* out = elements<T>(y);
      for_each_row(x.size(0) * length, 16, [&](int64_t token) {
        const int64_t batch = token / length, position = token % length;
        const auto* cos = elements<const Exact<T>>(cos_Sd) + position * half;
        const auto* sin = elements<const Exact<T>>(sin_Sd) + position * half;
        const T* row = in + batch * x.stride(0) + position * x.stride(1);
        for (int64_t head = 0; head < heads; ++head)
          rope_row(row + head * x.stride(2), cos, sin, out + (token * heads + head) * width, half);
      });
    });
    return y;
  }

  void activate(Activation kind, const at::Tensor& h, const at::Tensor& out) const override {
    const int64_t hidden = out.size(1), width = h.size(1);
    with_element_type(h.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      for_each_row(h.size(0), 16, [&](int64_t i) {
        const T* gate = elements<const T>(h) + i * width;
        activation_forward(kind, gate, gate + hidden, elements<T>(out) + i * hidden, hidden);
      });
    });
  }

  void activate_backward(Activation kind, const at::Tensor& h, const at::Tensor& d_out,
                         const at::Tensor& dh) const override {
    const int64_t hidden = d_out.size(1), width = h.size(1);
    with_element_type(h.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      for_each_row(h.size(0), 16, [&](int64_t i) {
        const T* gate = elements<const T>(h) + i * width;
        T* d_gate = elements<T>(dh) + i * width;
        T* d = elements<T>(d_out) + i * hidden;
        activation_backward<T>(kind, {gate, gate + hidden, d, d_gate, d_gate + hidden, d}, hidden);
      });
    });
  }

  // Every thread walks all rows and owns some of the columns, so that the order of the sums does
  // not depend on the number of threads.
  void add_rows(const at::Tensor& rows, const at::Tensor& index,
                const at::Tensor& sum) const override {
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

  at::Tensor gather_rows(const at::Tensor& source_RD, const at::Tensor& index) const override {
    SY_CHECK(source_RD.is_contiguous() && index.is_contiguous(), "rows must be contiguous");
    const int64_t row_bytes = source_RD.size(1) * static_cast<int64_t>(source_RD.element_size());
    const at::Tensor out = at::empty({index.size(0), source_RD.size(1)}, source_RD.options());
    const auto* from = static_cast<const char*>(source_RD.const_data_ptr());
    auto* to = static_cast<char*>(out.mutable_data_ptr());
    const int64_t* at_row = index.const_data_ptr<int64_t>();
    for_each_row(index.size(0), grain_of(row_bytes), [=](int64_t i) {
      if (at_row[i] < 0)
        std::memset(to + i * row_bytes, 0, row_bytes);
      else
        std::memcpy(to + i * row_bytes, from + at_row[i] * row_bytes, row_bytes);
    });
    return out;
  }

  at::Tensor sum_rows(const at::Tensor& source_RD, const at::Tensor& position_TK,
                      const at::Tensor& weight_TK) const override {
    const at::Tensor rows_RD = source_RD.contiguous(), index_TK = position_TK.contiguous();
    const at::Tensor factor_TK = weight_TK.defined() ? weight_TK.contiguous() : at::Tensor();
    const int64_t tokens = index_TK.size(0), choices = index_TK.size(1), width = rows_RD.size(1);
    const int64_t grain = grain_of(width * choices * static_cast<int64_t>(rows_RD.element_size()));
    const auto* position = index_TK.const_data_ptr<int64_t>();
    at::Tensor out_TD = at::empty({tokens, width}, rows_RD.options());
    AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, rows_RD.scalar_type(), "sum_rows", [&] {
      using Sum = Exact<scalar_t>;
      const auto* source = rows_RD.const_data_ptr<scalar_t>();
      const Sum* weight = weight_TK.defined() ? factor_TK.const_data_ptr<Sum>() : nullptr;
      auto* out = out_TD.mutable_data_ptr<scalar_t>();
      at::parallel_for(0, tokens, grain, [=](int64_t begin, int64_t end) {
        std::vector<Sum> sum(width);
        for (int64_t i = begin; i < end; ++i) {
          std::fill(sum.begin(), sum.end(), Sum{0});
          for (int64_t j = i * choices; j < (i + 1) * choices; ++j) {
            if (position[j] < 0) continue;
            add_scaled(sum.data(), source + position[j] * width, weight ? weight[j] : 1, width);
          }
          for (int64_t d = 0; d < width; ++d) out[i * width + d] = static_cast<scalar_t>(sum[d]);
        }
      });
    });
    return out_TD;
  }

  SumGradients sum_rows_backward(const at::Tensor& dy_TD, const WeightedRows& rows) const override {
    const at::Tensor d_out_TD = dy_TD.contiguous(), weight_TK = rows.weight_TK.contiguous();
    const int64_t slots = weight_TK.numel(), choices = weight_TK.size(1), width = dy_TD.size(1);
    const int64_t grain = grain_of(2 * width * static_cast<int64_t>(dy_TD.element_size()));
    const auto* position = rows.position_TK.const_data_ptr<int64_t>();
    SumGradients result{at::empty_like(rows.source_RD), at::empty_like(weight_TK)};
    AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, dy_TD.scalar_type(), "sum_rows_backward", [&] {
      using Sum = Exact<scalar_t>;
      const auto* source = rows.source_RD.const_data_ptr<scalar_t>();
      const auto* d_out = d_out_TD.const_data_ptr<scalar_t>();
      const auto* weight = weight_TK.const_data_ptr<Sum>();
      auto* d_source = result.source_RD.mutable_data_ptr<scalar_t>();
      auto* d_weight = result.weight_TK.mutable_data_ptr<Sum>();
      for_each_row(slots, grain, [=](int64_t j) {
        d_weight[j] = 0;
        if (position[j] < 0) return;
        const scalar_t *dy = d_out + j / choices * width, *row = source + position[j] * width;
        scalar_t* out = d_source + position[j] * width;
        // Eight partial sums: a fixed order that the compiler can vectorise.
        Sum partial[8] = {};
        for (int64_t d = 0; d < width; ++d) {
          const auto g = static_cast<Sum>(dy[d]);
          partial[d % 8] += g * static_cast<Sum>(row[d]);
          out[d] = static_cast<scalar_t>(weight[j] * g);
        }
        for (const Sum sum : partial) d_weight[j] += sum;
      });
    });
    return result;
  }

  void cross_entropy(const at::Tensor& logits_RV, const TargetRows& rows,
                     bool with_gradient) const override {
    const int64_t vocabulary = logits_RV.size(1);
    const int64_t* targets = rows.target_R.const_data_ptr<int64_t>();
    with_element_type(logits_RV.scalar_type(), [&](auto zero) {
      using T = decltype(zero);
      auto* nll = elements<Exact<T>>(rows.nll_R);
      auto* log_sum = rows.log_sum_R.defined() ? elements<Exact<T>>(rows.log_sum_R) : nullptr;
      for_each_row(logits_RV.size(0), 4, [&](int64_t i) {
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
      });
    });
  }
};

}  // namespace

const DeviceOps& cpu_ops() {
  static const CpuOps ops;
  return ops;
}

}  // namespace switchyard
