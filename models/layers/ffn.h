#pragma once
// Feed-forward networks: dense, and a stack of experts. Shazeer (2020), "GLU variants improve
// transformer".

#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::models {

// Standard deviation for a matrix whose output is added to the residual stream: init_std / sqrt(2
// num_layers), which keeps the stream's variance independent of depth (GPT-2), where the config
// asks for it.
double residual_init_std(const config::Model& model);

// y = (silu(x w1^T) * (x w3^T)) w2^T; registers <scope>.w13 [2F, D] (w1 above w3) and <scope>.w2
// [D, F].
class SwigluFfn {
 public:
  SwigluFfn(const Scope& scope, const config::Model& model, int64_t d_ff);
  // x [T, d_model] -> [T, d_model].
  at::Tensor forward(const at::Tensor& x_TD) const;

 private:
  Parameter& w13_;
  Parameter& w2_;
};

// The same for a stack of experts of which this rank holds `held`; registers w13 [E, 2F, D] and w2
// [E, D, F].
class SwigluExperts {
 public:
  SwigluExperts(const Scope& scope, const config::Model& model, int64_t num_experts, Slice held);
  // rows [R, d_model] expert-major; offsets [e + 1] -> [R, d_model].
  at::Tensor forward(const at::Tensor& rows_RD, const std::vector<int64_t>& offsets) const;

 private:
  Parameter& w13_;
  Parameter& w2_;
};

}  // namespace switchyard::models
