#include "models/local_experts.h"
#include "core/config/layers.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

// Biases are drawn like weights, so that experts differ from the start.
Init drawn(const config::Model& model) { return {Init::kNormal, config::declared_init_std(model)}; }

Scope experts_of(const Scope& root) { return (root / "experts").as(Role::kExpert); }

// The parameters are small, so that a part of the graph for each costs nothing.
// weight [E, out, in] on x [T, in] or [T, E, in] -> [T, E, out].
at::Tensor experts_linear(const at::Tensor& x, Parameter& weight, Parameter& bias) {
  const at::ScalarType type = x.scalar_type();
  const at::Tensor weight_EON = use(weight, type);
  const at::Tensor y = x.dim() == 2 ? at::einsum("ti,eoi->teo", {x, weight_EON})
                                    : at::einsum("tei,eoi->teo", {x, weight_EON});
  return y + use(bias, type);
}

}  // namespace

LocalExperts::LocalExperts(const Scope& root, const config::Model& model)
    : options_(model.local_experts()),
      num_classes_(model.vocab_size()),
      output_weight_(experts_of(root).matrix(
          "output",
          {options_.num_experts(), num_classes_,
           options_.hidden_units() > 0 ? options_.hidden_units() : model.d_model()},
          drawn(model))),
      output_bias_(experts_of(root).vector("output_bias", {options_.num_experts(), num_classes_},
                                           Use::kShift, drawn(model))) {
  const Scope experts = experts_of(root), gate = (root / "gate").as(Role::kGate);
  const int64_t num_experts = options_.num_experts(), hidden = options_.hidden_units();
  if (hidden > 0) {
    hidden_weight_ =
        &experts.matrix("hidden", {num_experts, hidden, model.d_model()}, drawn(model));
    hidden_bias_ = &experts.vector("hidden_bias", {num_experts, hidden}, Use::kShift, drawn(model));
  }
  if (num_experts > 1) {
    gate_weight_ = &gate.matrix("weight", {num_experts, model.d_model()}, drawn(model));
    gate_bias_ = &gate.vector("bias", {num_experts}, Use::kShift, drawn(model));
  }
}

at::Tensor LocalExperts::Prediction::blended_TC() const {
  return (gate_logits_TE.softmax(-1).unsqueeze(-1) * output_TEC).sum(1);
}

LocalExperts::Prediction LocalExperts::predict(const at::Tensor& features_TD) const {
  const at::ScalarType type = features_TD.scalar_type();
  at::Tensor input = features_TD;
  if (hidden_weight_) input = experts_linear(input, *hidden_weight_, *hidden_bias_).sigmoid();
  at::Tensor output_TEC = experts_linear(input, output_weight_, output_bias_);
  if (options_.output() == config::LOGISTIC) output_TEC = output_TEC.sigmoid();
  if (!gate_weight_) return {at::zeros({features_TD.size(0), 1}, type), output_TEC};
  return {at::matmul(features_TD, use(*gate_weight_, type).t()) + use(*gate_bias_, type),
          output_TEC};
}

}  // namespace switchyard::models
