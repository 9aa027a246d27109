#include "core/tensor/vocabulary_loss.h"

#include <algorithm>

#include <ATen/ops/_assert_async.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/gemm.h"

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

// Where the gradients of the operands go; those that are undefined are not wanted.
struct Gradients {
  at::Tensor hidden_TD, weight_VD;

  bool any() const { return hidden_TD.defined() || weight_VD.defined(); }
};

// Logits are products of `exact`, in float32 or float64, since rounded logits blur every loss;
// their gradients are multiplied with `backward`.
void add_blocks(const Operands& exact, const Operands& backward, const Gradients& gradients,
                LogitsLoss& loss) {
  const auto& [hidden_TD, weight_VD] = exact;
  const int64_t tokens = hidden_TD.size(0);
  const at::Tensor buffer =
      at::empty({std::min(tokens, kRowsPerBlock), weight_VD.size(0)}, hidden_TD.options());
  for (int64_t begin = 0; begin < tokens; begin += kRowsPerBlock) {
    const int64_t rows = std::min(kRowsPerBlock, tokens - begin);
    const at::Tensor logits = buffer.narrow(0, 0, rows);
    matmul(hidden_TD.narrow(0, begin, rows), weight_VD.t(), logits);
    loss.add(logits, begin, gradients.any());
    if (!gradients.any()) continue;
    // These are the logits themselves where the types are equal.
    const at::Tensor d_logits = logits.to(backward.weight_VD.scalar_type());
    if (gradients.hidden_TD.defined()) {
      matmul(d_logits, backward.weight_VD, gradients.hidden_TD.narrow(0, begin, rows));
    }
    if (gradients.weight_VD.defined()) {
      const at::Tensor hidden = backward.hidden_TD.narrow(0, begin, rows);
      matmul(d_logits.t(), hidden, gradients.weight_VD, true);
    }
  }
}

// Where bfloat16 products go through float32 anyway, the gradients stay in float32: the weight is
// converted once, not in each product.
at::ScalarType backward_type_of(at::ScalarType type) {
  return type == at::kBFloat16 && !has_fast_bfloat16() ? at::kFloat : type;
}

}  // namespace

CrossEntropyLoss::CrossEntropyLoss(const at::Tensor& targets_T, double scale, double z_coefficient)
    : targets_T_(targets_T.contiguous()), scale_(scale), z_coefficient_(z_coefficient) {}

void CrossEntropyLoss::begin(int64_t rows, const at::TensorOptions& options) {
  SY_CHECK(targets_T_.sizes() == at::IntArrayRef({rows}),
           "a cross-entropy of {} rows needs as many targets, not {}", rows, targets_T_.numel());
  nll_T_ = at::empty({rows}, options);
  if (z_coefficient_ > 0) log_sum_T_ = at::empty({rows}, options);
}

DeviceOps::TargetRows CrossEntropyLoss::rows_of(int64_t first, int64_t rows) const {
  const auto narrow = [&](const at::Tensor& x) {
    return x.defined() ? x.narrow(0, first, rows) : x;
  };
  return {narrow(targets_T_), scale_, z_coefficient_, narrow(nll_T_), narrow(log_sum_T_)};
}

void CrossEntropyLoss::add(const at::Tensor& logits_RV, int64_t first, bool with_gradient) {
  device_ops(logits_RV).cross_entropy(logits_RV, rows_of(first, logits_RV.size(0)), with_gradient);
}

at::Tensor CrossEntropyLoss::value() const { return nll_T_.sum().mul_(scale_); }

at::Tensor CrossEntropyLoss::z() const {
  return log_sum_T_.defined() ? log_sum_T_.square().sum().to(at::kDouble).mul_(scale_)
                              : at::Tensor();
}

at::Tensor vocabulary_logits(const at::Tensor& hidden, const Parameter& weight) {
  const at::ScalarType type = exact_type(hidden.scalar_type());
  const at::Tensor logits =
      at::empty({hidden.size(0), weight.value.size(0)}, hidden.options().dtype(type));
  matmul(hidden.detach().contiguous().to(type), weight.value.detach().to(type).t(), logits);
  return logits;
}

at::Tensor vocabulary_loss(const at::Tensor& hidden, Parameter& weight, LogitsLoss& loss) {
  SY_CHECK(hidden.dim() == 2 && hidden.size(1) == weight.value.size(1),
           "vocabulary_loss {}: hidden [T, D] and weight [V, D] do not fit", weight.name);
  const at::ScalarType element = hidden.scalar_type();
  const Operands operands{hidden.detach().contiguous(), weight.value.detach()};
  const Operands exact = operands.to(exact_type(element)),
                 rounded = operands.to(backward_type_of(element));
  Gradients gradients;
  if (at::GradMode::is_enabled()) {
    if (hidden.requires_grad()) gradients.hidden_TD = at::empty_like(rounded.hidden_TD);
    if (weight.value.requires_grad()) gradients.weight_VD = weight.grad;
  }
  loss.begin(hidden.size(0), exact.hidden_TD.options());
  add_blocks(exact, rounded, gradients, loss);
  const auto backward = [d_hidden = gradients.hidden_TD, element](const at::Tensor& d_loss,
                                                                  const std::vector<bool>&) {
    at::_assert_async(d_loss.eq(1),
                      "the vocabulary loss must enter the total loss with coefficient 1; its "
                      "factor is `scale`");
    return std::vector{d_hidden.defined() ? d_hidden.to(element) : at::Tensor()};
  };
  return differentiable("vocabulary_loss", {hidden}, {&weight}, loss.value(), backward);
}

}  // namespace switchyard
