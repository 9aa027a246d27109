#include <algorithm>
#include <functional>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/tensor/gemm.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// Experts in contiguous pieces of about equal rows, one piece for each thread to compute alone; or
// one piece with all threads inside every product, when products are large or rows uneven.
std::vector<Range> split_experts(const std::vector<int64_t>& offsets, int64_t weights_per_expert) {
  const int64_t experts = static_cast<int64_t>(offsets.size()) - 1, rows = offsets.back();
  const int64_t threads = at::get_num_threads();
  const std::vector<Range> whole = {{0, experts}};
  // Work of a product from which the threads inside it lose nothing.
  constexpr int64_t kLargeProduct = int64_t{1} << 27;
  if (threads == 1 || at::in_parallel_region() ||
      rows / std::max<int64_t>(experts, 1) * weights_per_expert >= kLargeProduct) {
    return whole;
  }
  std::vector<Range> pieces;
  int64_t begin = 0, busiest = 0;
  for (int64_t piece = 1; piece <= threads; ++piece) {
    int64_t end = begin;  // up to the boundary nearest to this thread's share
    while (end < experts && offsets[end] + offsets[end + 1] <= 2 * rows * piece / threads) ++end;
    if (piece == threads) end = experts;
    busiest = std::max(busiest, offsets[end] - offsets[begin]);
    pieces.push_back({begin, end});
    begin = end;
  }
  // Uneven pieces leave threads idle for longer than the threads inside a product cost.
  return busiest * threads * 4 > rows * 5 ? whole : pieces;
}

// f(expert, rows of the expert, scratch) for every expert that has rows; `scratch` is 1-D with
// `scratch_per_row` elements per row and reused, so that it stays in the cache.
using ExpertWork = std::function<void(int64_t, Range, const at::Tensor&)>;

struct Experts {
  const std::vector<int64_t>& offsets;
  int64_t weights_per_expert;
  at::TensorOptions options;
};

void for_each_expert(const Experts& experts, int64_t scratch_per_row, const ExpertWork& f) {
  const std::vector<int64_t>& offsets = experts.offsets;
  const auto run = [&](Range piece) {
    at::AutoDispatchBelowADInplaceOrView guard;  // this thread may have gradients on
    int64_t most = 0;
    for (int64_t i = piece.begin; i < piece.end; ++i) {
      most = std::max(most, offsets[i + 1] - offsets[i]);
    }
    if (most == 0) return;
    const at::Tensor scratch = at::empty({most * scratch_per_row}, experts.options);
    for (int64_t i = piece.begin; i < piece.end; ++i) {
      if (offsets[i + 1] > offsets[i]) f(i, {offsets[i], offsets[i + 1]}, scratch);
    }
  };
  const std::vector<Range> pieces = split_experts(offsets, experts.weights_per_expert);
  if (pieces.size() == 1) return run(pieces[0]);
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run(pieces[i]);
  });
}

at::Tensor rows_of(const at::Tensor& x, Range rows) { return x.narrow(0, rows.begin, rows.size()); }

at::Tensor part_of(const at::Tensor& scratch, int64_t begin, int64_t rows, int64_t width) {
  return scratch.narrow(0, begin, rows * width).view({rows, width});
}

// out [rows, F] from the two halves of h [rows, 2F].
void activate(const at::Tensor& h, const at::Tensor& out) {
  const int64_t hidden = out.size(1);
  with_element_type(h.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, h.size(0), 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* gate = elements<const T>(h) + i * 2 * hidden;
        swiglu_forward(gate, gate + hidden, elements<T>(out) + i * hidden, hidden);
      }
    });
  });
}

// dh [rows, 2F]; d_out [rows, F] is replaced by the activation itself.
void activate_backward(const at::Tensor& h, const at::Tensor& d_out, const at::Tensor& dh) {
  const int64_t hidden = d_out.size(1);
  with_element_type(h.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, h.size(0), 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* gate = elements<const T>(h) + i * 2 * hidden;
        T* d_gate = elements<T>(dh) + i * 2 * hidden;
        T* d = elements<T>(d_out) + i * hidden;
        swiglu_backward<T>({gate, gate + hidden, d, d_gate, d_gate + hidden, d}, hidden);
      }
    });
  });
}

// A dense FFN's matrix is a stack of one.
at::Tensor stacked(const at::Tensor& weight) {
  return weight.dim() == 2 ? weight.unsqueeze(0) : weight;
}

struct Weights {
  Parameter* w13;
  Parameter* w2;
};

struct SwigluExperts : torch::autograd::Function<SwigluExperts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows_RD,
                            const at::Tensor& w13_value, const at::Tensor& w2_value,
                            Weights weights, const std::vector<int64_t>& offsets) {
    const at::Tensor x = rows_RD.contiguous(), w13_e2FD = stacked(w13_value.detach()),
                     w2_eDF = stacked(w2_value.detach());
    const int64_t hidden = w2_eDF.size(2);
    const at::Tensor h_R2F = at::empty({x.size(0), 2 * hidden}, x.options());
    at::Tensor y_RD = at::empty(x.sizes(), x.options());
    for_each_expert({offsets, w13_e2FD[0].numel(), x.options()}, hidden,
                    [&](int64_t expert, Range rows, const at::Tensor& scratch) {
                      const at::Tensor h = rows_of(h_R2F, rows);
                      const at::Tensor activation = part_of(scratch, 0, rows.size(), hidden);
                      matmul(rows_of(x, rows), w13_e2FD[expert].t(), h);
                      activate(h, activation);
                      matmul(activation, w2_eDF[expert].t(), rows_of(y_RD, rows));
                    });
    save_parameter(context, "w13", *weights.w13);
    save_parameter(context, "w2", *weights.w2);
    context->saved_data["offsets"] = offsets;
    context->save_for_backward({x, h_R2F});
    return y_RD;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &h_R2F = saved[1], dy = gradients[0].contiguous();
    Parameter &w13 = saved_parameter(context, "w13"), &w2 = saved_parameter(context, "w2");
    const at::Tensor w13_e2FD = stacked(w13.value.detach()), w2_eDF = stacked(w2.value.detach());
    const at::Tensor dw13_e2FD = stacked(w13.grad), dw2_eDF = stacked(w2.grad);
    const std::vector<int64_t> offsets = context->saved_data["offsets"].toIntVector();
    const bool needs_w13 = context->needs_input_grad(1), needs_w2 = context->needs_input_grad(2);
    at::Tensor dx;
    if (context->needs_input_grad(0)) dx = at::empty_like(x);
    const int64_t hidden = w2_eDF.size(2);
    for_each_expert({offsets, w13_e2FD[0].numel(), x.options()}, 3 * hidden,
                    [&](int64_t expert, Range rows, const at::Tensor& scratch) {
                      const int64_t n = rows.size();
                      const at::Tensor dh = part_of(scratch, 0, n, 2 * hidden);
                      const at::Tensor d_activation = part_of(scratch, n * 2 * hidden, n, hidden);
                      matmul(rows_of(dy, rows), w2_eDF[expert], d_activation);
                      activate_backward(rows_of(h_R2F, rows), d_activation, dh);
                      const at::Tensor& activation = d_activation;  // overwritten
                      if (needs_w2) {
                        matmul(rows_of(dy, rows).t(), activation, dw2_eDF[expert], true);
                      }
                      if (needs_w13) matmul(dh.t(), rows_of(x, rows), dw13_e2FD[expert], true);
                      if (dx.defined()) matmul(dh, w13_e2FD[expert], rows_of(dx, rows));
                    });
    return {dx, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor swiglu_experts(const at::Tensor& rows, Parameter& w13, Parameter& w2,
                          const std::vector<int64_t>& offsets) {
  const at::Tensor w13_e2FD = stacked(w13.value), w2_eDF = stacked(w2.value);
  const int64_t experts = w13_e2FD.size(0), features = w13_e2FD.size(2);
  SY_CHECK(rows.dim() == 2 && rows.size(1) == features &&
               w2_eDF.sizes() == at::IntArrayRef({experts, features, w13_e2FD.size(1) / 2}),
           "swiglu_experts: {} and {} do not fit each other or the rows", w13.name, w2.name);
  SY_CHECK(static_cast<int64_t>(offsets.size()) == experts + 1 && offsets.front() == 0 &&
               offsets.back() == rows.size(0) && std::is_sorted(offsets.begin(), offsets.end()),
           "swiglu_experts {}: offsets do not divide {} rows among {} experts", w13.name,
           rows.size(0), experts);
  return SwigluExperts::apply(rows, w13.value, w2.value, Weights{&w13, &w2}, offsets);
}

}  // namespace switchyard
