#pragma once
// Experts of several hidden layers: the baseline MoE-1-Deep (Shazeer et al., 2017, appendix C).

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layers/expert_linear.h"

namespace switchyard::models {

// y = W_n relu(... relu(W_1 x)), with moe.hidden_layers hidden layers of width d_ff.
class DeepExperts {
 public:
  // Registers <scope>.layers.<i>.weight [E, out, in].
  DeepExperts(const Scope& scope, const config::Model& model);
  // rows [R, d_model] expert-major; offsets [e + 1] -> [R, d_model].
  at::Tensor forward(const at::Tensor& rows_RD, const std::vector<int64_t>& offsets) const;

 private:
  std::vector<ExpertLinear> matrices_;
};

}  // namespace switchyard::models
