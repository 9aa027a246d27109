#pragma once
// A tiny model with experts and a bare training loop, for checks that compare layouts, losses and
// gradients.

#include <map>
#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/tensor/aten.h"
#include "models/pass/routing.h"
#include "parallel/communicator.h"

namespace switchyard::testing {

// 2 layers, d_model 16, 4 experts top-2, sequences of 12 tokens, 8 per step; every field that
// training reads is set.
config::RunConfig tiny_config();
// The other architectures as small, with every kind of randomness that they have.
config::RunConfig tiny_lstm_lm();
config::RunConfig tiny_encoder_decoder();
config::RunConfig tiny_local_experts();

struct TrainingTrace {
  std::vector<double> losses, gradient_norms, balance, z;
  std::vector<int64_t> dropped;
  // Of the last step before its update: reduced gradients under global names, a stack of experts
  // put together.
  std::map<std::string, at::Tensor> gradients;
  std::map<std::string, at::Tensor> weights;               // after the last step
  std::vector<std::vector<models::RoutingStats>> routers;  // over all ranks, by step and router
};

// **Collective.** Trains on generated tokens from scratch; every rank gets the whole trace.
TrainingTrace train_tiny(const config::RunConfig& config, parallel::Communicator& world, int steps);

}  // namespace switchyard::testing
