#include <algorithm>
#include <functional>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/gemm.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

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

// What for_each_expert() calls for every expert that has rows: f(expert, its rows, scratch). The
// scratch is 1-D with `scratch_per_row` elements per row and reused, so that it stays in the cache.
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
  if (!experts.options.device().is_cpu()) return run({0, std::ssize(offsets) - 1});
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

// A tensor of each parameter with a first dimension of experts, which those of a dense FFN lack;
// undefined where there is none.
struct StackTensors {
  at::Tensor in, out, scale_eF, shift_eF;
};

StackTensors stacked(const FfnWeights& weights, at::Tensor Parameter::*tensor) {
  const auto stack = [tensor](const Parameter* parameter, int64_t dims) {
    if (!parameter || !(parameter->*tensor).defined()) return at::Tensor();
    const at::Tensor x = (parameter->*tensor).detach();
    return x.dim() < dims ? x.unsqueeze(0) : x;
  };
  return {stack(weights.in, 3), stack(weights.out, 3), stack(weights.scale, 2),
          stack(weights.shift, 2)};
}

// The networks as the loops below read them.
struct Stack : StackTensors {
  Activation activation;
  at::Tensor mask_RF;

  int64_t hidden() const { return out.size(2); }
  int64_t width() const { return in.size(1); }  // of the first product
  // What follows the activation. The common case has none of it.
  void modulate(int64_t expert, Range rows, const at::Tensor& hidden) const {
    if (scale_eF.defined()) hidden.mul_(scale_eF[expert]);
    if (shift_eF.defined()) hidden.add_(shift_eF[expert]);
    if (mask_RF.defined()) hidden.mul_(rows_of(mask_RF, rows));
  }
};

// What backward reads beside the weights; h [R, width] is the first product.
struct Saved {
  at::Tensor x, h;
  std::vector<int64_t> offsets;
};

void add_columns(const at::Tensor& rows, const at::Tensor& sum) {
  sum.add_(rows.sum({0}, false, sum.scalar_type()));
}

// Takes the gradient back through modulate(), in place, and adds the shift's. Returns what the
// scale's gradient needs, undefined where it is not asked for.
at::Tensor before_modulation(const Stack& stack, const StackTensors& grads, int64_t expert,
                             Range rows, const at::Tensor& d_hidden) {
  if (stack.mask_RF.defined()) d_hidden.mul_(rows_of(stack.mask_RF, rows));
  if (grads.shift_eF.defined()) add_columns(d_hidden, grads.shift_eF[expert]);
  const at::Tensor kept = grads.scale_eF.defined() ? d_hidden.clone() : at::Tensor();
  if (stack.scale_eF.defined()) d_hidden.mul_(stack.scale_eF[expert]);
  return kept;
}

// Fills saved.h and y [R, D].
void forward(const Stack& stack, const Saved& saved, const at::Tensor& y) {
  const auto& [x, h, offsets] = saved;
  const DeviceOps& ops = device_ops(x);  // not within the threads of the loop
  const int64_t hidden_width = stack.hidden();
  for_each_expert({offsets, stack.in[0].numel(), x.options()}, hidden_width,
                  [&](int64_t expert, Range rows, const at::Tensor& scratch) {
                    const at::Tensor h_rows = rows_of(h, rows);
                    const at::Tensor hidden = part_of(scratch, 0, rows.size(), hidden_width);
                    matmul(rows_of(x, rows), stack.in[expert].t(), h_rows);
                    ops.activate(stack.activation, h_rows, hidden);
                    stack.modulate(expert, rows, hidden);
                    matmul(hidden, stack.out[expert].t(), rows_of(y, rows));
                  });
}

// Adds to the gradients that are defined, and fills dx where it is.
void backward(const Stack& stack, const Saved& saved, const at::Tensor& dy,
              const StackTensors& grads, const at::Tensor& dx) {
  const auto& [x, h, offsets] = saved;
  const DeviceOps& ops = device_ops(x);
  const int64_t width = stack.width(), hidden_width = stack.hidden();
  for_each_expert({offsets, stack.in[0].numel(), x.options()}, width + hidden_width,
                  [&](int64_t expert, Range rows, const at::Tensor& scratch) {
                    const int64_t n = rows.size();
                    const at::Tensor dh = part_of(scratch, 0, n, width);
                    const at::Tensor d_hidden = part_of(scratch, n * width, n, hidden_width);
                    matmul(rows_of(dy, rows), stack.out[expert], d_hidden);
                    const at::Tensor kept = before_modulation(stack, grads, expert, rows, d_hidden);
                    ops.activate_backward(stack.activation, rows_of(h, rows), d_hidden, dh);
                    const at::Tensor& hidden = d_hidden;  // overwritten
                    if (kept.defined()) add_columns(kept * hidden, grads.scale_eF[expert]);
                    stack.modulate(expert, rows, hidden);
                    if (grads.out.defined())
                      matmul(rows_of(dy, rows).t(), hidden, grads.out[expert], true);
                    if (grads.in.defined())
                      matmul(dh.t(), rows_of(x, rows), grads.in[expert], true);
                    if (dx.defined()) matmul(dh, stack.in[expert], rows_of(dx, rows));
                  });
}

void check(const at::Tensor& rows, const FfnWeights& weights, const Stack& stack,
           const std::vector<int64_t>& offsets) {
  const int64_t experts = stack.in.size(0), features = stack.in.size(2);
  const int64_t hidden = stack.width() / (is_gated(stack.activation) ? 2 : 1);
  SY_CHECK(rows.dim() == 2 && rows.size(1) == features &&
               stack.out.sizes() == at::IntArrayRef({experts, features, hidden}),
           "ffn_experts: {} and {} do not fit each other or the rows", weights.in->name,
           weights.out->name);
  for (const at::Tensor& vector : {stack.scale_eF, stack.shift_eF}) {
    SY_CHECK(!vector.defined() || vector.sizes() == at::IntArrayRef({experts, hidden}),
             "ffn_experts {}: its scale or shift is not [{}, {}]", weights.in->name, experts,
             hidden);
  }
  SY_CHECK(static_cast<int64_t>(offsets.size()) == experts + 1 && offsets.front() == 0 &&
               offsets.back() == rows.size(0) && std::is_sorted(offsets.begin(), offsets.end()),
           "ffn_experts {}: offsets do not divide {} rows among {} experts", weights.in->name,
           rows.size(0), experts);
  SY_CHECK(!stack.mask_RF.defined() || stack.mask_RF.size(0) == rows.size(0),
           "ffn_experts {}: mask of {} rows for {}", weights.in->name, stack.mask_RF.size(0),
           rows.size(0));
}

}  // namespace

at::Tensor ffn_experts(const at::Tensor& rows, const FfnWeights& weights, Activation activation,
                       const std::vector<int64_t>& offsets, const at::Tensor& mask) {
  const Stack stack{stacked(weights, &Parameter::value), activation, mask};
  check(rows, weights, stack, offsets);
  std::vector<Parameter*> parameters = {weights.in, weights.out, weights.scale, weights.shift};
  std::erase(parameters, nullptr);

  const at::Tensor x = rows.detach().contiguous();
  const Saved saved{x, at::empty({x.size(0), stack.width()}, x.options()), offsets};
  const at::Tensor y = at::empty_like(x);
  forward(stack, saved, y);
  const auto gradients = [stack, weights, saved](const at::Tensor& dy,
                                                 const std::vector<bool>& needs) {
    const at::Tensor dx = needs[0] ? at::empty_like(saved.x) : at::Tensor();
    backward(stack, saved, dy.contiguous(), stacked(weights, &Parameter::grad), dx);
    return std::vector{dx};
  };
  return differentiable("ffn_experts", {rows}, parameters, y, gradients);
}

}  // namespace switchyard
