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

// What the experts and the gate say of cases: gate logits s [T, E], outputs o [T, E, C].
struct ExpertPrediction {
  at::Tensor gate_logits_TE, output_TEC;
  at::Tensor blended_TC() const;  // sum_i p_i o_i
};

class LocalExperts {
 public:
  // model.d_model counts a case's features, model.vocab_size its classes.
  LocalExperts(const Scope& root, const config::Model& model);

  // The error of each case of a batch, [T], whose target is the one-hot class; 0 for padding, which
  // has no target. Differentiable. The sums of the context get what the blended prediction comes
  // to: "error", the mean over outputs of the squared error, and "accuracy".
  at::Tensor case_errors(const TokenBatch& batch, const StepContext& context) const;

 private:
  // From the features [T, D] of cases, in the compute type.
  ExpertPrediction predict(const at::Tensor& features_TD) const;

  config::LocalExperts options_;
  int64_t num_classes_;
  Parameter *hidden_weight_ = nullptr, *hidden_bias_ = nullptr;  // null: linear experts
  Parameter &output_weight_, &output_bias_;
  Parameter *gate_weight_ = nullptr, *gate_bias_ = nullptr;  // null: one expert
};

// The error of each case, [T], for targets d [T, C]:
//   COOPERATIVE  |d - sum_i p_i o_i|^2          experts fix each other's rest, and stay coupled
//   COMPETITIVE  sum_i p_i |d - o_i|^2          equation 1.2
//   MIXTURE      -log sum_i p_i exp(-|d - o_i|^2 / 2)  equation 1.3: the likelihood of a mixture
at::Tensor expert_error(const ExpertPrediction& prediction, const at::Tensor& target_TC,
                        config::ExpertError error);

}  // namespace switchyard::models
