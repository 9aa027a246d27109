#pragma once
// The objective of local experts (Jacobs et al., 1991): the errors of a table's cases.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/batch.h"
#include "models/local_experts.h"
#include "models/pass/context.h"

namespace switchyard::models {

// The error of each case, [T], for target d:
//   COOPERATIVE  |d - sum_i p_i o_i|^2          experts fix each other's rest, and stay coupled
//   COMPETITIVE  sum_i p_i |d - o_i|^2          equation 1.2
//   MIXTURE      -log sum_i p_i exp(-|d - o_i|^2 / 2)  equation 1.3: the likelihood of a mixture
// gate_logits [T, E]; outputs [T, E, C]; target [T, C].
at::Tensor expert_error(const at::Tensor& gate_logits_TE, const at::Tensor& output_TEC,
                        const at::Tensor& target_TC, config::ExpertError error);

// The error of each case of a batch, [T], whose target is the one-hot class; 0 for padding, which
// has no target. Differentiable. The sums of the context get what the blended
// prediction comes to: "error", the mean over outputs of the squared error, and "accuracy".
at::Tensor case_errors(const LocalExperts& model, const TokenBatch& batch,
                       const StepContext& context);

}  // namespace switchyard::models
