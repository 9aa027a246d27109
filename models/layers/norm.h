#pragma once
// The normalisations of the families: RMSNorm, LayerNorm with or without a bias. Zhang and Sennrich
// (2019); Ba et al. (2016).

#include <string>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/pass/rows.h"

namespace switchyard::models {

struct NormOptions {
  config::Norm kind;
  config::NormCast cast;  // of RMS_NORM
  double eps;
};

// Of heads and latents, whatever norm the model's sub-layers have: RMSNorm.
NormOptions rms_norm_options(const config::Model& model);

class Norm {
 public:
  // Registers <scope>.<name> [width], starting at 1, and for LAYER_NORM <scope>.<name>_bias.
  Norm(const Scope& scope, const std::string& name, const NormOptions& options, int64_t width);
  // As the model's sub-layers have it, of width d_model.
  Norm(const Scope& scope, const std::string& name, const config::Model& model);

  // x [..., width] -> the same shape; statistics in float32 (float64 for float64).
  at::Tensor forward(const at::Tensor& x) const;
  // RMSNorm over features that are dealt over the ranks of `rows`, as the weight is: x [T, width /
  // ranks] -> the same shape. **Collective** over these ranks.
  at::Tensor forward_dealt(const at::Tensor& x, const Rows& rows) const;

 private:
  NormOptions options_;
  Parameter& weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace switchyard::models
