#pragma once
// The coefficients of the auxiliary losses in a step. A model keeps the config that it was made
// from; where the run's schedules change a coefficient, the step's context has it.

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"

namespace switchyard::models {

// As a config says.
LossCoefficients coefficients_of(const config::Model& model);

// Of a step: the context's, else the config's.
RouterLosses router_coefficients(const config::Moe& moe, const StepContext& context);
double output_z_coefficient(const config::Model& model, const StepContext& context);
double mtp_coefficient(const config::Model& model, const StepContext& context);

}  // namespace switchyard::models
