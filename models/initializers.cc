#include "models/initializers.h"

#include <cmath>
#include <string_view>

namespace switchyard::models {
namespace {

// Standard deviation of a normal of unit scale that is cut at +-2.
constexpr double kCutDeviation = 0.87962566103423978;

bool is_embedding(std::string_view name) {
  return name == "embedding" || name.ends_with(".embedding");
}

Init init_of(const config::Model& model, const Parameter& parameter) {
  if (model.initializer() == config::UNIFORM) return {Init::kUniform, model.init_range()};
  if (is_embedding(parameter.name)) return {Init::kNormal, 1.0};
  const double inputs = static_cast<double>(parameter.shape.back());
  const double own = parameter.init.value / model.init_std();
  const double deviation = own * std::sqrt(model.init_scale() / inputs);
  return {Init::kTruncatedNormal,
          model.init_restore_variance() ? deviation / kCutDeviation : deviation};
}

}  // namespace

void choose_initializers(const config::Model& model, ParameterTable& table) {
  if (model.initializer() != config::TRUNCATED_NORMAL && model.initializer() != config::UNIFORM) {
    return;
  }
  for (Parameter& parameter : table.parameters()) {
    if (parameter.init.kind == Init::kNormal) parameter.init = init_of(model, parameter);
  }
}

}  // namespace switchyard::models
