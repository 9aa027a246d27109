#include "models/initializers.h"

#include <cmath>

#include "core/config/layers.h"

namespace switchyard::models {
namespace {

// Standard deviation of a normal of unit scale that is cut at +-2.
constexpr double kCutDeviation = 0.87962566103423978;

// Half the range of a uniform of variance 2 / (buckets + heads), the rule "fan_avg".
double relative_bias_range(const Parameter& parameter) {
  return std::sqrt(6.0 / static_cast<double>(parameter.shape[0] + parameter.shape[1]));
}

// The rule in place of `own_init`, which the module registered.
Init init_of(const config::Model& model, const Parameter& parameter, const Init& own_init) {
  if (model.initializer() == config::NORMAL)
    return {Init::kTruncatedNormal, own_init.value, model.init_cut()};
  if (model.initializer() == config::UNIFORM) return {Init::kUniform, model.init_range()};
  if (parameter.role == Role::kEmbedding) return {Init::kNormal, 1.0};
  if (parameter.use == Use::kTable) return {Init::kUniform, relative_bias_range(parameter)};
  const double inputs = static_cast<double>(parameter.shape.back());
  const double own = own_init.value / config::declared_init_std(model);
  const double deviation = own * std::sqrt(model.init_scale() / inputs);
  return {Init::kTruncatedNormal,
          model.init_restore_variance() ? deviation / kCutDeviation : deviation};
}

}  // namespace

void choose_initializers(const config::Model& model, ParameterTable& table) {
  const bool is_plain = model.initializer() <= config::NORMAL && model.init_cut() == 0;
  if (is_plain) return;
  for (Parameter& parameter : table.parameters()) {
    for (Part& part : parameter.parts) {
      if (part.init.kind != Init::kNormal || part.init.is_own) continue;
      const double factor = part.init.factor;
      part.init = init_of(model, parameter, part.init);
      part.init.factor = factor;
    }
  }
}

double output_divisor(const config::Model& model) {
  const bool unit_embeddings = model.initializer() == config::TRUNCATED_NORMAL;
  return model.tie_embeddings() && unit_embeddings ? std::sqrt(static_cast<double>(model.d_model()))
                                                   : 1;
}

}  // namespace switchyard::models
