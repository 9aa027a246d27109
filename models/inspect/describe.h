#pragma once
// What a config means, in words and numbers, before anything is allocated: the losses as formulas,
// and the page that `inspect` prints.

#include <string>
#include <vector>

#include "core/config/run_config.pb.h"
#include "models/inspect/loss_terms.h"

namespace switchyard::models {

// Every term of the total, which is their sum. A term with coefficient 0 is left out, unless a
// schedule raises that: then it is shown with the first coefficient above 0.
std::vector<LossTerm> losses(const config::RunConfig& config);

// One line per term, its detail indented below.
std::string describe_losses(const config::RunConfig& config);

// One line per value that changes during training: what it is at first, and where it goes. Empty:
// none does.
std::string describe_schedules(const config::RunConfig& config);

// What a config does not say of the machine.
struct Assumed {
  int node_ranks = 8;       // neighbours that share a node
  double product_rate = 0;  // FLOP/s of all ranks in plain matrix products; 0: not known
};

// Model, parameters, operations per token, mesh, memory, traffic and losses of a resolved config on
// `ranks` ranks (at least 1), as text or as JSON; and an estimate of the run's time if the rate of
// products is known. Throws ConfigError when the mesh does not fit the ranks.
std::string inspect_config(const config::RunConfig& config, int ranks, bool json,
                           const Assumed& assumed = {});

}  // namespace switchyard::models
