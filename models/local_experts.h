#pragma once
// Adaptive mixtures of local experts (Jacobs, Jordan, Nowlan and Hinton, 1991): small networks that
// all see each case, blended by a dense softmax gate. The first mixture of experts.
//
//   experts  o_i = phi(W_i x + b_i), phi identity or logistic; or with a logistic hidden layer
//   gate     p = softmax(s), s = V x + c
//
// With a single expert there is no gate: with a hidden layer that is the back-propagation network
// that the paper compares with.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/pass/context.h"

namespace switchyard::models {

// The error of each case, [T], for target d:
//   COOPERATIVE  |d - sum_i p_i o_i|^2          experts fix each other's rest, and stay coupled
//   COMPETITIVE  sum_i p_i |d - o_i|^2          equation 1.2
//   MIXTURE      -log sum_i p_i exp(-|d - o_i|^2 / 2)  equation 1.3: the likelihood of a mixture
// gate_logits [T, E]; outputs [T, E, C]; target [T, C].
at::Tensor expert_error(const at::Tensor& gate_logits_TE, const at::Tensor& output_TEC,
                        const at::Tensor& target_TC, config::ExpertError error);

class LocalExperts {
 public:
  // model.d_model counts a case's features, model.vocab_size its classes.
  LocalExperts(const Scope& root, const config::Model& model);

  // This rank's share of the step's error: `scale` * sum over cases with a target, which is the
  // one-hot class. nll (may be undefined; [T]) receives each case's error. Reports what the blended
  // prediction does: "error", the mean over outputs of the squared error, and "accuracy".
  at::Tensor loss(const TokenBatch& batch, const StepContext& context, double scale,
                  const at::Tensor& nll) const;

 private:
  struct Prediction {
    at::Tensor gate_logits_TE, output_TEC;
    at::Tensor blended_TC() const;
  };
  Prediction predict(const at::Tensor& features_TD) const;

  config::LocalExperts options_;
  int64_t num_classes_;
  Parameter *hidden_weight_ = nullptr, *hidden_bias_ = nullptr;  // null: linear experts
  Parameter &output_weight_, &output_bias_;
  Parameter *gate_weight_ = nullptr, *gate_bias_ = nullptr;  // null: one expert
};

}  // namespace switchyard::models
