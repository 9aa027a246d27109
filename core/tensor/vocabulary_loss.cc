#include <algorithm>

#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/gemm.h"
#include "core/tensor/op_support.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

// Rows whose logits exist at a time: 8 MiB of float32 for a vocabulary of 8192. A multiple of 32,
// and few different row counts, for the sake of the matrix library's kernels.
constexpr int64_t kRowsPerBlock = 256;

// A product's operands in one type.
struct Operands {
  at::Tensor hidden_TD, weight_VD;

  Operands to(at::ScalarType type) const { return {hidden_TD.to(type), weight_VD.to(type)}; }
};

struct LossInput {
  Operands exact;     // of the logits: float32 or float64, since rounded logits blur every loss
  Operands backward;  // of the gradients' products
  at::Tensor targets_T;
  double scale, z_coefficient;
  bool with_gradients;
};

struct LossOutput {
  at::Tensor nll_T;
  at::Tensor log_sum_T;              // undefined: not wanted
  at::Tensor d_hidden, weight_grad;  // filled where defined
};

// Fills the rows from `first` on from logits [rows, V]; when `with_gradients`, replaces logits by
// their gradient.
void softmax_block(const LossInput& input, const at::Tensor& logits, int64_t first,
                   const LossOutput& output) {
  const auto rows_of = [&](const at::Tensor& x) {
    return x.defined() ? x.narrow(0, first, logits.size(0)) : x;
  };
  device_ops(logits).cross_entropy(logits,
                                   {rows_of(input.targets_T), input.scale, input.z_coefficient,
                                    rows_of(output.nll_T), rows_of(output.log_sum_T)},
                                   input.with_gradients);
}

void loss_blocks(const LossInput& input, const LossOutput& output) {
  const auto& [hidden_TD, weight_VD] = input.exact;
  const int64_t tokens = hidden_TD.size(0), vocabulary = weight_VD.size(0);
  const at::ScalarType backward_type = input.backward.weight_VD.scalar_type();
  const at::Tensor buffer =
      at::empty({std::min(tokens, kRowsPerBlock), vocabulary}, hidden_TD.options());
  for (int64_t begin = 0; begin < tokens; begin += kRowsPerBlock) {
    const int64_t rows = std::min(kRowsPerBlock, tokens - begin);
    const at::Tensor logits = buffer.narrow(0, 0, rows);
    matmul(hidden_TD.narrow(0, begin, rows), weight_VD.t(), logits);
    softmax_block(input, logits, begin, output);
    if (!input.with_gradients) continue;
    const at::Tensor d_logits = logits.to(backward_type);  // itself where the types are equal
    if (output.d_hidden.defined()) {
      matmul(d_logits, input.backward.weight_VD, output.d_hidden.narrow(0, begin, rows));
    }
    if (output.weight_grad.defined()) {
      const at::Tensor hidden = input.backward.hidden_TD.narrow(0, begin, rows);
      matmul(d_logits.t(), hidden, output.weight_grad, true);
    }
  }
}

// Where bfloat16 products go through float32 anyway, the gradients stay in float32: the weight is
// converted once, not in each product.
at::ScalarType backward_type_of(at::ScalarType type) {
  return type == at::kBFloat16 && !has_fast_bfloat16() ? at::kFloat : type;
}

}  // namespace

at::Tensor vocabulary_logits(const at::Tensor& hidden, const Parameter& weight) {
  const at::ScalarType type = exact_type(hidden.scalar_type());
  const at::Tensor logits =
      at::empty({hidden.size(0), weight.value.size(0)}, hidden.options().dtype(type));
  matmul(hidden.detach().contiguous().to(type), weight.value.detach().to(type).t(), logits);
  return logits;
}

at::Tensor vocabulary_loss(const at::Tensor& hidden, Parameter& weight, const at::Tensor& targets,
                           double scale, const at::Tensor& nll, const OutputZLoss& z) {
  SY_CHECK(hidden.dim() == 2 && targets.sizes() == at::IntArrayRef({hidden.size(0)}) &&
               hidden.size(1) == weight.value.size(1),
           "vocabulary_loss {}: hidden [T, D], targets [T] and weight [V, D] do not fit",
           weight.name);
  const bool with_gradients =
      at::GradMode::is_enabled() && (hidden.requires_grad() || weight.value.requires_grad());
  const at::ScalarType type = exact_type(hidden.scalar_type());
  const Operands operands{hidden.detach().contiguous(), weight.value.detach()};
  const LossInput input{operands.to(type),    operands.to(backward_type_of(hidden.scalar_type())),
                        targets.contiguous(), scale,
                        z.coefficient,        with_gradients};
  SY_CHECK(!nll.defined() ||
               (nll.scalar_type() == type && nll.is_contiguous() && nll.numel() == hidden.size(0)),
           "vocabulary_loss: nll must be [{}], {}", hidden.size(0), at::toString(type));
  LossOutput output;
  output.nll_T =
      nll.defined() ? nll.detach() : at::empty({hidden.size(0)}, hidden.options().dtype(type));
  if (z.coefficient > 0) output.log_sum_T = at::empty_like(output.nll_T);
  if (with_gradients && hidden.requires_grad())
    output.d_hidden = at::empty_like(input.backward.hidden_TD);
  if (with_gradients && weight.value.requires_grad()) output.weight_grad = weight.grad;
  loss_blocks(input, output);
  if (z.value && output.log_sum_T.defined())
    *z.value += scale * output.log_sum_T.square().sum().item<double>();
  const auto backward = [d_hidden = output.d_hidden, element = hidden.scalar_type()](
                            const at::Tensor& d_loss, const std::vector<bool>&) {
    SY_CHECK(d_loss.item<double>() == 1,
             "the vocabulary loss must enter the total loss with coefficient 1, not {}; its factor "
             "is `scale`",
             d_loss.item<double>());
    return std::vector{d_hidden.defined() ? d_hidden.to(element) : at::Tensor(), at::Tensor()};
  };
  return differentiable("vocabulary_loss", {hidden, weight.value}, output.nll_T.sum().mul_(scale),
                        backward);
}

}  // namespace switchyard
