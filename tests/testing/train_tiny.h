#pragma once
// Training of a tiny model by the product's own steps, for checks that compare layouts, losses and
// gradients.

#include <map>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/tensor/aten.h"
#include "models/pass/stats.h"
#include "parallel/communicator.h"

namespace switchyard::testing {

struct TrainingTrace {
  std::vector<double> losses, gradient_norms, balance, z;
  std::vector<int64_t> dropped;
  // Of the last step before its update: reduced gradients under global names, a stack of experts
  // put together.
  std::map<std::string, at::Tensor> gradients;
  std::map<std::string, at::Tensor> weights;               // after the last step
  std::vector<std::vector<models::RoutingStats>> routers;  // over all ranks, by step and router
};

// **Collective.** Trains `steps` steps from scratch, on the config's data; LOCAL_EXPERTS: on cases
// made here. Every rank gets the whole trace.
TrainingTrace train_tiny(config::RunConfig config, parallel::Communicator& world, int steps);

// The same on one rank, and on `ranks` threads of this process over the config's mesh.
TrainingTrace train_alone(const config::RunConfig& config, int steps);
TrainingTrace train_on_threads(const config::RunConfig& config, int ranks, int steps);

// The same losses, norms, drops and parameters.
void expect_same_training(const TrainingTrace& actual, const TrainingTrace& expected,
                          double tolerance);
// The same gradients, and the same weights: those without a gradient, such as selection biases,
// too.
void expect_same_parameters(const TrainingTrace& actual, const TrainingTrace& expected,
                            double tolerance);

}  // namespace switchyard::testing
