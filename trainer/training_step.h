#pragma once
// One step of training without a run: batches in, outcome out. Nothing here opens a file, takes a
// lock or minds a signal, so that a run, a benchmark and the tests of layouts take the same step.

#include <cstdint>
#include <vector>

#include "core/config/run_config.pb.h"
#include "core/data/batch.h"
#include "models/pass/routing.h"
#include "models/pass/stats.h"
#include "optim/optimizer.h"
#include "parallel/named_sums.h"
#include "trainer/model_instance.h"

namespace switchyard::trainer {

struct StepInput {
  const config::RunConfig& config;    // resolved, as in force in this step: config::in_force()
  int64_t step = 0;                   // steps done before this one
  const std::vector<Batch>& batches;  // this rank's share of each micro-batch
  double loss_factor = 1;             // what the loss is multiplied by: NaN in a drill
  std::vector<models::SlotRecord>* slots = nullptr;  // added to; null: not wanted
};

// What a step comes to before its update. The same on all ranks, but for `stats`, which are those
// of all routers, whichever stage has them, on this rank's tokens.
struct StepOutcome {
  double loss = 0;           // mean over the step's targets, nats
  double gradient_norm = 0;  // L2, of the reduced gradients before they are clipped
  double learning_rate = 0;
  parallel::NamedSums sums;                 // what the model reports beside its loss
  std::vector<models::RoutingStats> stats;  // one per router

  bool is_finite() const;
};

// **Collective** over the mesh. Forward and backward over all micro-batches, then the reduction of
// gradients. The parameters' gradients are the step's afterwards, whatever they were.
StepOutcome compute_step(ModelInstance& instance, const StepInput& input);

// **Collective** over the mesh. Moves the weights by the gradients of the step, and selection
// biases by its load. config: as in compute_step(). Requires: outcome.is_finite().
void update_weights(ModelInstance& instance, optim::Optimizer& optimizer,
                    const config::RunConfig& config, const StepOutcome& outcome);

}  // namespace switchyard::trainer
