#include "models/layers/ffn.h"

#include "core/base/errors.h"
#include "core/tensor/profiled_part.h"
#include "models/layers/init.h"

namespace switchyard::models {
namespace {

Activation activation_of(config::Ffn kind) {
  switch (kind) {
    case config::SWIGLU:
      return Activation::kSwiglu;
    case config::GEGLU:
      return Activation::kGeglu;
    case config::GEGLU_TANH:
      return Activation::kGegluTanh;
    case config::REGLU:
      return Activation::kReglu;
    case config::RELU:
      return Activation::kRelu;
    case config::GELU:
      return Activation::kGelu;
    case config::SQUARED_RELU:
      return Activation::kSquaredRelu;
    default:
      break;
  }
  SY_CHECK(false, "ffn {} is not resolved", config::Ffn_Name(kind));
  return Activation::kSwiglu;
}

// Two scopes, since the hidden layer's features are rows of the first matrix and columns of the
// second, and may be dealt over ranks.
FfnWeights register_weights(const Scope& by_row, const Scope& by_column, const config::Model& model,
                            Activation activation, int64_t d_ff) {
  const int64_t d_model = model.d_model();
  const Init init = normal_init(model);
  Parameter& in = is_gated(activation)
                      ? by_row.matrix("w13", {{"w1", d_ff, init}, {"w3", d_ff, init}}, d_model)
                      : by_row.matrix("w1", {d_ff, d_model}, init);
  FfnWeights weights{&in, &by_column.matrix("w2", {d_model, d_ff}, residual_init(model))};
  if (model.ffn_bias() == config::MULTIPLICATIVE)
    weights.scale = &by_row.vector("scale", {d_ff}, Use::kScale, {Init::kConstant, 1});
  if (model.ffn_bias() == config::ADDITIVE)
    weights.shift = &by_row.vector("shift", {d_ff}, Use::kShift, {Init::kConstant, 0});
  return weights;
}

}  // namespace

DenseFfn::DenseFfn(const Scope& scope, const config::Model& model, config::Ffn kind, int64_t d_ff)
    : activation_(activation_of(kind)),
      weights_(register_weights(scope.cut(Axis::kTensor, 0), scope.cut(Axis::kTensor, 1), model,
                                activation_, d_ff)) {}

at::Tensor DenseFfn::forward(const at::Tensor& x_TD, const InnerDropout& dropout) const {
  const ProfiledPart part("sy::experts");
  const at::Tensor mask_TF = dropout.hidden_factors(x_TD.size(0), weights_.out->value.size(-1));
  return ffn_experts(x_TD, weights_, activation_, {0, x_TD.size(0)}, mask_TF);
}

ExpertFfn::ExpertFfn(const Scope& scope, const config::Model& model)
    : activation_(activation_of(model.moe().ffn())) {
  const Scope experts = scope.of_experts(model.moe().num_experts());
  weights_ =
      register_weights(experts.cut(Axis::kExpertTensor, 0), experts.cut(Axis::kExpertTensor, 1),
                       model, activation_, model.moe().d_ff());
}

at::Tensor ExpertFfn::forward(const at::Tensor& rows_RD, const std::vector<int64_t>& offsets,
                              const at::Tensor& mask_RF) const {
  const ProfiledPart part("sy::experts");
  return ffn_experts(rows_RD, weights_, activation_, offsets, mask_RF);
}

}  // namespace switchyard::models
