#include "models/pass/coefficients.h"

namespace switchyard::models {
namespace {

LossCoefficients::Routers of_routers(const config::Moe& moe) {
  const config::BalanceLoss& balance = moe.balance_loss();
  return {balance.coefficient(),
          balance.device_coefficient(),
          balance.communication_coefficient(),
          moe.z_loss_coefficient(),
          moe.importance_loss_coefficient(),
          moe.load_loss_coefficient()};
}

}  // namespace

LossCoefficients coefficients_of(const config::Model& model) {
  return {of_routers(model.moe()), model.output_z_loss_coefficient(), model.mtp().weight()};
}

LossCoefficients::Routers router_coefficients(const config::Moe& moe, const StepContext& context) {
  return context.coefficients ? context.coefficients->routers : of_routers(moe);
}

double output_z_coefficient(const config::Model& model, const StepContext& context) {
  return context.coefficients ? context.coefficients->output_z : model.output_z_loss_coefficient();
}

double mtp_coefficient(const config::Model& model, const StepContext& context) {
  return context.coefficients ? context.coefficients->mtp : model.mtp().weight();
}

}  // namespace switchyard::models
