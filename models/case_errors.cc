#include "models/case_errors.h"

#include "core/tensor/aten.h"

namespace switchyard::models {

at::Tensor expert_error(const at::Tensor& gate_logits_TE, const at::Tensor& output_TEC,
                        const at::Tensor& target_TC, config::ExpertError error) {
  if (error == config::COOPERATIVE) {
    const at::Tensor blended = (gate_logits_TE.softmax(-1).unsqueeze(-1) * output_TEC).sum(1);
    return (target_TC - blended).square().sum(-1);
  }
  const at::Tensor distance_TE = (target_TC.unsqueeze(1) - output_TEC).square().sum(-1);
  if (error == config::COMPETITIVE) return (gate_logits_TE.softmax(-1) * distance_TE).sum(-1);
  return -(gate_logits_TE.log_softmax(-1) - distance_TE / 2).logsumexp(-1);
}

at::Tensor case_errors(const LocalExperts& model, const TokenBatch& batch,
                       const StepContext& context) {
  const at::Tensor labels_T = batch.targets_BS.flatten();
  const at::Tensor features_TD = batch.features_BD.to(model.compute_type());
  const at::Tensor real_T = labels_T.ge(0).to(features_TD.scalar_type());
  const at::Tensor target_TC =
      at::one_hot(labels_T.clamp_min(0), model.num_classes()).to(features_TD.scalar_type());
  const LocalExperts::Prediction prediction = model.predict(features_TD);
  const at::Tensor error_T = real_T * expert_error(prediction.gate_logits_TE, prediction.output_TEC,
                                                   target_TC, model.options().error());
  if (context.sums) {
    const at::Tensor blended = prediction.blended_TC().detach();
    const at::Tensor correct_T = blended.argmax(-1).eq(labels_T);
    const auto cases = labels_T.ge(0).sum().item<double>();
    const at::Tensor squared_error_T = (target_TC - blended).square().mean(-1);
    (*context.sums)["error"] += {(real_T * squared_error_T).sum().item<double>(), cases};
    (*context.sums)["accuracy"] += {correct_T.sum().item<double>(), cases};
  }
  return error_T;
}

}  // namespace switchyard::models
