#include "models/layers/norm.h"

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"

namespace switchyard::models {

NormOptions rms_norm_options(const config::Model& model) {
  return {config::RMS_NORM, model.norm_cast(), model.norm_eps()};
}

Norm::Norm(const Scope& scope, const std::string& name, const NormOptions& options, int64_t width)
    : options_(options),
      weight_(scope.as(Role::kNorm).vector(name, {width}, Use::kScale, {Init::kConstant, 1})) {
  if (options.kind == config::LAYER_NORM)
    bias_ =
        &scope.as(Role::kNorm).vector(name + "_bias", {width}, Use::kShift, {Init::kConstant, 0});
}

Norm::Norm(const Scope& scope, const std::string& name, const config::Model& model)
    : Norm(scope, name, {model.norm(), model.norm_cast(), model.norm_eps()}, model.d_model()) {}

at::Tensor Norm::forward(const at::Tensor& x) const {
  if (options_.kind == config::RMS_NORM) {
    const auto order = options_.cast == config::CAST_THEN_SCALE ? NormOrder::kCastThenScale
                                                                : NormOrder::kScaleThenCast;
    return rms_norm(x, weight_, options_.eps, order);
  }
  const auto type = x.scalar_type();
  return at::layer_norm(x, {x.size(-1)}, use(weight_, type),
                        bias_ ? use(*bias_, type) : at::Tensor(), options_.eps);
}

}  // namespace switchyard::models
