#include "models/initializers.h"

#include <cmath>
#include <string_view>

#include "core/config/layers.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

// Standard deviation of a normal of unit scale that is cut at +-2.
constexpr double kCutDeviation = 0.87962566103423978;

// Whether the last part of the parameter's name is this.
bool has_name(const Parameter& parameter, std::string_view name) {
  return std::string_view(parameter.name).substr(parameter.name.rfind('.') + 1) == name;
}

bool is_embedding(const Parameter& parameter) {
  return has_name(parameter, "embedding") || has_name(parameter, "position_embedding");
}

// Of fan_avg: variance 2 / (buckets + heads).
double relative_bias_range(const Parameter& parameter) {
  return std::sqrt(6.0 / static_cast<double>(parameter.shape[0] + parameter.shape[1]));
}

Init init_of(const config::Model& model, const Parameter& parameter) {
  if (model.initializer() == config::NORMAL)
    return {Init::kTruncatedNormal, parameter.init.value, model.init_cut()};
  if (model.initializer() == config::UNIFORM) return {Init::kUniform, model.init_range()};
  if (is_embedding(parameter)) return {Init::kNormal, 1.0};
  if (has_name(parameter, "relative_bias")) return {Init::kUniform, relative_bias_range(parameter)};
  const double inputs = static_cast<double>(parameter.shape.back());
  const double own = parameter.init.value / config::declared_init_std(model);
  const double deviation = own * std::sqrt(model.init_scale() / inputs);
  return {Init::kTruncatedNormal,
          model.init_restore_variance() ? deviation / kCutDeviation : deviation};
}

}  // namespace

void choose_initializers(const config::Model& model, ParameterTable& table) {
  const bool is_plain = model.initializer() <= config::NORMAL && model.init_cut() == 0;
  if (is_plain) return;
  for (Parameter& parameter : table.parameters()) {
    if (parameter.init.kind != Init::kNormal || parameter.init.is_own) continue;
    Init init = init_of(model, parameter);
    init.narrow_rows = parameter.init.narrow_rows;
    init.narrow_by = parameter.init.narrow_by;
    parameter.init = init;
  }
}

at::Tensor for_output(const at::Tensor& hidden, const config::Model& model) {
  const bool unit_embeddings = model.initializer() == config::TRUNCATED_NORMAL;
  return model.tie_embeddings() && unit_embeddings
             ? hidden / std::sqrt(static_cast<double>(model.d_model()))
             : hidden;
}

}  // namespace switchyard::models
