#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

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

struct Embedding : torch::autograd::Function<Embedding> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& ids,
                            const at::Tensor& value, Parameter* weight) {
    save_parameter(context, "weight", *weight);
    context->save_for_backward({ids});
    return at::embedding(value, ids);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    if (context->needs_input_grad(1)) {
      scatter_rows(as_matrix(gradients[0]).contiguous(),
                   context->get_saved_variables()[0].contiguous(),
                   saved_parameter(context, "weight").grad);
    }
    return {at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor embedding(const at::Tensor& ids, Parameter& weight) {
  SY_CHECK(ids.scalar_type() == at::kLong, "embedding {}: ids are {}, not int64", weight.name,
           at::toString(ids.scalar_type()));
  return Embedding::apply(ids, weight.value, &weight);
}

}  // namespace switchyard
