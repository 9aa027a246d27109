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

namespace switchyard::models {

class LocalExperts {
 public:
  // model.d_model counts a case's features, model.vocab_size its classes.
  LocalExperts(const Scope& root, const config::Model& model);

  // gate_logits [T, E]; output [T, E, C].
  struct Prediction {
    at::Tensor gate_logits_TE, output_TEC;
    at::Tensor blended_TC() const;
  };
  // Of the features [T, D] of cases, in the compute type.
  Prediction predict(const at::Tensor& features_TD) const;

  const config::LocalExperts& options() const { return options_; }
  int64_t num_classes() const { return num_classes_; }
  at::ScalarType compute_type() const { return output_weight_.value.scalar_type(); }

 private:
  config::LocalExperts options_;
  int64_t num_classes_;
  Parameter *hidden_weight_ = nullptr, *hidden_bias_ = nullptr;  // null: linear experts
  Parameter &output_weight_, &output_bias_;
  Parameter *gate_weight_ = nullptr, *gate_bias_ = nullptr;  // null: one expert
};

}  // namespace switchyard::models
