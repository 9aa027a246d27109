#pragma once
// Experts that every token uses, beside the routed ones. Dai et al. (2024), DeepSeekMoE; Qwen
// multiplies their output by a gate of its own.

#include <optional>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/layers/dense.h"
#include "models/layers/ffn.h"

namespace switchyard::models {

class SharedExpert {
 public:
  // Holds all of them as one FFN of width count * d_ff: the sum of FFNs is the FFN of their stacked
  // matrices. Registers <scope>'s matrices and, with sigmoid_gate, <scope>.gate [1, D].
  SharedExpert(const Scope& scope, const config::Model& model);

  // This rank's share of the rows, x [T, d_model] -> [T, d_model]. **Collective** over the ranks of
  // `rows`.
  at::Tensor forward(const at::Tensor& x_TD, const Rows& rows) const;

 private:
  DenseFfn ffn_;
  std::optional<Dense> gate_;  // none: the output as it is
};

}  // namespace switchyard::models
