#include "models/local_experts.h"

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "models/layers/init.h"

namespace switchyard::models {
namespace {

Scope experts_of(const Scope& root) { return (root / "experts").as(Role::kExpert); }

// weight [E, out, in] on x [T, in] or [T, E, in] -> [T, E, out]. The parameters are small, so that
// a part of the graph for each costs nothing.
at::Tensor experts_linear(const at::Tensor& x, Parameter& weight, Parameter& bias) {
  const at::ScalarType type = x.scalar_type();
  const at::Tensor weight_EON = use(weight, type);
  const at::Tensor y = x.dim() == 2 ? at::einsum("ti,eoi->teo", {x, weight_EON})
                                    : at::einsum("tei,eoi->teo", {x, weight_EON});
  return y + use(bias, type);
}

}  // namespace

// Biases are drawn like weights, so that experts differ from the start.
LocalExperts::LocalExperts(const Scope& root, const config::Model& model)
    : options_(model.local_experts()),
      num_classes_(model.vocab_size()),
      output_weight_(experts_of(root).matrix(
          "output",
          {options_.num_experts(), num_classes_,
           options_.hidden_units() > 0 ? options_.hidden_units() : model.d_model()},
          normal_init(model))),
      output_bias_(experts_of(root).vector("output_bias", {options_.num_experts(), num_classes_},
                                           Use::kShift, normal_init(model))) {
  const Scope experts = experts_of(root), gate = (root / "gate").as(Role::kGate);
  const int64_t num_experts = options_.num_experts(), hidden = options_.hidden_units();
  if (hidden > 0) {
    hidden_weight_ =
        &experts.matrix("hidden", {num_experts, hidden, model.d_model()}, normal_init(model));
    hidden_bias_ =
        &experts.vector("hidden_bias", {num_experts, hidden}, Use::kShift, normal_init(model));
  }
  if (num_experts > 1) {
    gate_weight_ = &gate.matrix("weight", {num_experts, model.d_model()}, normal_init(model));
    gate_bias_ = &gate.vector("bias", {num_experts}, Use::kShift, normal_init(model));
  }
}

ExpertPrediction LocalExperts::predict(const at::Tensor& features_TD) const {
  const at::ScalarType type = features_TD.scalar_type();
  at::Tensor input = features_TD;
  if (hidden_weight_) input = experts_linear(input, *hidden_weight_, *hidden_bias_).sigmoid();
  at::Tensor output_TEC = experts_linear(input, output_weight_, output_bias_);
  if (options_.output() == config::LOGISTIC) output_TEC = output_TEC.sigmoid();
  if (!gate_weight_) return {at::zeros({features_TD.size(0), 1}, type), output_TEC};
  // Not a Dense, whose bias starts at 0 and whose library runtime.float32_products chooses.
  return {at::matmul(features_TD, use(*gate_weight_, type).t()) + use(*gate_bias_, type),
          output_TEC};
}

at::Tensor ExpertPrediction::blended_TC() const {
  return (gate_logits_TE.softmax(-1).unsqueeze(-1) * output_TEC).sum(1);
}

at::Tensor expert_error(const ExpertPrediction& prediction, const at::Tensor& target_TC,
                        config::ExpertError error) {
  if (error == config::COOPERATIVE) return (target_TC - prediction.blended_TC()).square().sum(-1);
  const auto& [gate_logits_TE, output_TEC] = prediction;
  const at::Tensor distance_TE = (target_TC.unsqueeze(1) - output_TEC).square().sum(-1);
  if (error == config::COMPETITIVE) return (gate_logits_TE.softmax(-1) * distance_TE).sum(-1);
  return -(gate_logits_TE.log_softmax(-1) - distance_TE / 2).logsumexp(-1);
}

at::Tensor LocalExperts::case_errors(const TokenBatch& batch, const StepContext& context) const {
  const at::ScalarType type = output_weight_.value.scalar_type();
  const at::Tensor labels_T = batch.targets_BS.flatten(), real_T = labels_T.ge(0).to(type);
  const at::Tensor target_TC = at::one_hot(labels_T.clamp_min(0), num_classes_).to(type);
  const ExpertPrediction prediction = predict(batch.features_BD.to(type));
  if (context.sums) {
    const at::Tensor blended_TC = prediction.blended_TC().detach();
    const at::Tensor squared_error_T = (target_TC - blended_TC).square().mean(-1);
    const auto right = blended_TC.argmax(-1).eq(labels_T).sum().item<double>();
    const auto cases = labels_T.ge(0).sum().item<double>();
    (*context.sums)["error"] += {(real_T * squared_error_T).sum().item<double>(), cases};
    (*context.sums)["accuracy"] += {right, cases};
  }
  return real_T * expert_error(prediction, target_TC, options_.error());
}

}  // namespace switchyard::models
