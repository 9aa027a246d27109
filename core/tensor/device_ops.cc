#include "core/tensor/device_ops.h"

#include <utility>

#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/silu_backward.h>

#include "core/tensor/aten.h"

namespace switchyard {
namespace {

thread_local bool is_plain_everywhere = false;

at::Tensor exact(const at::Tensor& x) { return x.to(exact_type(x.scalar_type())); }

const char* gelu_formula(Activation kind) {
  return kind == Activation::kGegluTanh ? "tanh" : "none";
}

// The nonlinearity alone, without what a gated one is multiplied with.
at::Tensor nonlinear(Activation kind, const at::Tensor& x) {
  switch (kind) {
    case Activation::kSwiglu:
      return at::silu(x);
    case Activation::kGeglu:
    case Activation::kGegluTanh:
    case Activation::kGelu:
      return at::gelu(x, gelu_formula(kind));
    case Activation::kReglu:
    case Activation::kRelu:
      return at::relu(x);
    default:  // kSquaredRelu
      return at::relu(x).square();
  }
}

// d times the slope at x.
at::Tensor nonlinear_backward(Activation kind, const at::Tensor& d, const at::Tensor& x) {
  switch (kind) {
    case Activation::kSwiglu:
      return at::silu_backward(d, x);
    case Activation::kGeglu:
    case Activation::kGegluTanh:
    case Activation::kGelu:
      return at::gelu_backward(d, x, gelu_formula(kind));
    case Activation::kReglu:
    case Activation::kRelu:
      return d * x.gt(0);
    default:  // kSquaredRelu
      return d * at::relu(x) * 2;
  }
}

// source [R, D] at index of any shape -> [*index, D]; zeros where the index is negative.
at::Tensor rows_at(const at::Tensor& source, const at::Tensor& index) {
  const at::Tensor flat = index.flatten();
  std::vector<int64_t> shape = index.sizes().vec();
  shape.push_back(source.size(1));
  if (source.size(0) == 0) return at::zeros(shape, source.options());
  return source.index_select(0, flat.clamp_min(0))
      .masked_fill_(flat.lt(0).unsqueeze(1), 0)
      .view(shape);
}

}  // namespace

DeviceOps::Normed DeviceOps::rms_norm(const at::Tensor& x_TD, const at::Tensor& weight_D,
                                      double eps, bool cast_first) const {
  const at::Tensor x = exact(x_TD);
  const at::Tensor r_T = (x.square().mean(-1) + eps).rsqrt();
  at::Tensor normed = x * r_T.unsqueeze(1);
  if (cast_first) normed = exact(normed.to(x_TD.scalar_type()));
  return {(normed * exact(weight_D)).to(x_TD.scalar_type()), r_T};
}

DeviceOps::NormGradients DeviceOps::rms_norm_backward(const at::Tensor& dy_TD,
                                                      const NormInput& input,
                                                      bool needs_weight) const {
  const at::Tensor dy = exact(dy_TD), r_T1 = input.r_T.unsqueeze(1);
  const at::Tensor normed = exact(input.x_TD) * r_T1;
  const at::Tensor d_normed = dy * exact(input.weight_D);
  const at::Tensor dx = r_T1 * (d_normed - normed * (d_normed * normed).mean(-1, true));
  return {dx.to(dy_TD.scalar_type()), needs_weight ? (dy * normed).sum(0) : at::Tensor()};
}

at::Tensor DeviceOps::rotate(const at::Tensor& x_BSHd, const at::Tensor& cos_Sd,
                             const at::Tensor& sin_Sd) const {
  const std::vector<at::Tensor> halves = exact(x_BSHd).chunk(2, -1);
  const at::Tensor cos = cos_Sd.unsqueeze(1), sin = sin_Sd.unsqueeze(1);  // [S, 1, d/2]
  return at::concat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1)
      .to(x_BSHd.scalar_type());
}

void DeviceOps::activate(Activation kind, const at::Tensor& h, const at::Tensor& out) const {
  if (!is_gated(kind)) {
    out.copy_(nonlinear(kind, h));
    return;
  }
  const std::vector<at::Tensor> parts = h.chunk(2, -1);
  out.copy_(nonlinear(kind, parts[0]) * parts[1]);
}

void DeviceOps::activate_backward(Activation kind, const at::Tensor& h, const at::Tensor& d_out,
                                  const at::Tensor& dh) const {
  if (!is_gated(kind)) {
    dh.copy_(nonlinear_backward(kind, d_out, h));
  } else {
    const std::vector<at::Tensor> parts = h.chunk(2, -1), d_parts = dh.chunk(2, -1);
    d_parts[0].copy_(nonlinear_backward(kind, d_out * parts[1], parts[0]));
    d_parts[1].copy_(d_out * nonlinear(kind, parts[0]));
  }
  DeviceOps::activate(kind, h, d_out);
}

void DeviceOps::add_rows(const at::Tensor& rows, const at::Tensor& index,
                         const at::Tensor& sum) const {
  sum.index_add_(0, index.flatten(), rows.to(sum.scalar_type()));
}

at::Tensor DeviceOps::gather_rows(const at::Tensor& source_RD, const at::Tensor& index) const {
  return rows_at(source_RD, index);
}

at::Tensor DeviceOps::sum_rows(const at::Tensor& source_RD, const at::Tensor& position_TK,
                               const at::Tensor& weight_TK) const {
  at::Tensor rows_TKD = rows_at(exact(source_RD), position_TK);
  if (weight_TK.defined()) rows_TKD = rows_TKD * weight_TK.unsqueeze(-1);
  return rows_TKD.sum(1).to(source_RD.scalar_type());
}

DeviceOps::SumGradients DeviceOps::sum_rows_backward(const at::Tensor& dy_TD,
                                                     const WeightedRows& rows) const {
  const auto& [source_RD, position_TK, weight_TK] = rows;
  const int64_t num_rows = source_RD.size(0), width = source_RD.size(1);
  const at::Tensor dy_T1D = exact(dy_TD).unsqueeze(1);
  const at::Tensor d_weight = (rows_at(exact(source_RD), position_TK) * dy_T1D).sum(-1);
  // What has no position goes to one row more.
  const at::Tensor to = at::where(position_TK.lt(0), num_rows, position_TK).flatten();
  const at::Tensor d_source = at::zeros({num_rows + 1, width}, source_RD.options());
  d_source.index_copy_(0, to,
                       (weight_TK.unsqueeze(-1) * dy_T1D).to(d_source.scalar_type()).flatten(0, 1));
  return {d_source.narrow(0, 0, num_rows), d_weight};
}

void DeviceOps::cross_entropy(const at::Tensor& logits_RV, const TargetRows& rows,
                              bool with_gradient) const {
  const at::Tensor has_none_R = rows.target_R.lt(0);
  const at::Tensor target_R1 = rows.target_R.clamp_min(0).unsqueeze(1);
  const at::Tensor log_sum_R = logits_RV.logsumexp(-1);
  const at::Tensor nll_R = log_sum_R - logits_RV.gather(1, target_R1).squeeze(1);
  rows.nll_R.copy_(nll_R.masked_fill(has_none_R, 0));
  if (rows.log_sum_R.defined()) rows.log_sum_R.copy_(log_sum_R.masked_fill(has_none_R, 0));
  if (!with_gradient) return;
  const at::Tensor of_target_R = at::full_like(nll_R, rows.scale).masked_fill_(has_none_R, 0);
  const at::Tensor of_softmax_R = of_target_R * (1 + 2 * rows.z_coefficient * log_sum_R);
  logits_RV.sub_(log_sum_R.unsqueeze(1)).exp_().mul_(of_softmax_R.unsqueeze(1));
  logits_RV.scatter_add_(1, target_R1, -of_target_R.unsqueeze(1));
}

const DeviceOps& device_ops(const at::Tensor& x) {
  static const DeviceOps plain;
  return x.is_cpu() && !is_plain_everywhere ? cpu_ops() : plain;
}

PlainOpsGuard::PlainOpsGuard() : before_(std::exchange(is_plain_everywhere, true)) {}
PlainOpsGuard::~PlainOpsGuard() { is_plain_everywhere = before_; }

}  // namespace switchyard
