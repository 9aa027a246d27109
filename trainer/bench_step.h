#pragma once
// `switchyard bench step`: how close a training step comes to the machine's matrix-product rate,
// and where the rest of the time goes.

#include <map>
#include <string>

#include "core/config/run_config.pb.h"
#include "parallel/communicator.h"

namespace switchyard::trainer {

struct StepBench {
  int ranks = 0, threads_per_rank = 0, steps = 0;
  double tokens_per_second = 0;     // median over steps
  double slowest = 0, fastest = 0;  // tokens per second of single steps
  double machine_flops = 0;  // best plain matrix product in the compute type, summed over ranks
  double mfu = 0;            // model FLOP/s over machine_flops
  // Shares of the step's time on rank 0; "other" is what no part names.
  std::map<std::string, double> parts;
  // What rank 0 sends in a step, by axis: measured, and by formula.
  struct Sent {
    double bytes = 0, formula_bytes = 0;
  };
  std::map<std::string, Sent> traffic;
  double memory_bytes = 0;  // this process's growth from the model's construction on, at its peak
  double memory_formula_bytes = 0;  // parameters, what training keeps with them, and activations
};

// **Collective.** Trains `steps` steps after a warm-up on the config's own data, and writes
// nothing. DataError if the data are missing.
StepBench bench_step(config::RunConfig config, parallel::Communicator& world, int steps);

std::string render(const StepBench& bench, bool json);

}  // namespace switchyard::trainer
