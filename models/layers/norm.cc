#include "models/layers/norm.h"

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
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

at::Tensor Norm::forward_dealt(const at::Tensor& x, const Rows& rows) const {
  if (!rows.ranks()) return forward(x);
  SY_CHECK(options_.kind == config::RMS_NORM, "{} is no RMSNorm", weight_.name);
  const auto type = x.scalar_type();
  const at::Tensor wide = x.to(exact_type(type));
  // Gathering what a sum deals out is a sum on every rank, in backward too.
  const Rows tokens = rows.of(x.size(0));
  const at::Tensor squares_T1 = tokens.gather(tokens.sum(wide.square().sum(-1, true)));
  const auto width = static_cast<double>(weight_.shape[0]);
  at::Tensor normed = wide * (squares_T1 / width + options_.eps).rsqrt();
  if (options_.cast == config::CAST_THEN_SCALE) normed = normed.to(type).to(exact_type(type));
  return (normed * use(weight_, type)).to(type);
}

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
