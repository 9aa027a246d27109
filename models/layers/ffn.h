#pragma once
// Feed-forward networks: dense, and a stack of experts. Shazeer (2020), "GLU variants improve
// transformer"; Zoph et al. (2022), ST-MoE, appendix on biases of the hidden layer.

#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/ops.h"
#include "core/tensor/parameter.h"
#include "models/layers/dropout.h"

namespace switchyard::models {

// y = (act(x w1^T) [* (x w3^T)]) w2^T, with the hidden layer times `scale` or plus `shift` where
// the model has an ffn_bias. Registers <scope>.w13 [2F, D] (its parts w1 above w3) or, without a
// gate, <scope>.w1 [F, D]; <scope>.w2 [D, F]; and <scope>.scale or <scope>.shift [F].
// The hidden layer is dealt over the tensor ranks: each returns one summand of y, and the caller
// adds them up (Rows::sum).
class DenseFfn {
 public:
  DenseFfn(const Scope& scope, const config::Model& model, config::Ffn kind, int64_t d_ff);
  // x [T, d_model] -> this rank's terms [T, d_model].
  at::Tensor forward(const at::Tensor& x_TD, const InnerDropout& dropout = {}) const;

 private:
  Activation activation_;
  FfnWeights weights_;
};

// The FFNs of the model's routed experts, each as a DenseFfn but that the hidden layer is dealt
// over the expert-tensor ranks; all shapes begin with their number.
class ExpertFfn {
 public:
  ExpertFfn(const Scope& scope, const config::Model& model);
  // rows [R, d_model] expert-major; offsets [e + 1]; mask [R, F] (dropout) may be undefined, F is
  // this rank's -> this rank's terms [R, d_model].
  at::Tensor forward(const at::Tensor& rows_RD, const std::vector<int64_t>& offsets,
                     const at::Tensor& mask_RF) const;

 private:
  Activation activation_;
  FfnWeights weights_;
};

}  // namespace switchyard::models
