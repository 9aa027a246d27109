#include "models/pass/coefficients.h"

namespace switchyard::models {
namespace {

RouterLosses of_routers(const config::Moe& moe) {
  RouterLosses coefficients;
  for (const RouterLossKind& kind : router_loss_kinds())
    coefficients[kind.loss] = kind.coefficient(moe);
  return coefficients;
}

}  // namespace

LossCoefficients coefficients_of(const config::Model& model) {
  return {of_routers(model.moe()), model.output_z_loss_coefficient(), model.mtp().weight()};
}

RouterLosses router_coefficients(const config::Moe& moe, const StepContext& context) {
  return context.coefficients ? context.coefficients->routers : of_routers(moe);
}

double output_z_coefficient(const config::Model& model, const StepContext& context) {
  return context.coefficients ? context.coefficients->output_z : model.output_z_loss_coefficient();
}

double mtp_coefficient(const config::Model& model, const StepContext& context) {
  return context.coefficients ? context.coefficients->mtp : model.mtp().weight();
}

}  // namespace switchyard::models
