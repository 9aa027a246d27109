#pragma once
// How long a training step would take on each of several meshes, by formulas and by what is assumed
// of the machine: for a choice among meshes, no promise.

#include <string>
#include <vector>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"

namespace switchyard::models {

// What one rank and its links are assumed to reach.
struct AssumedMachine {
  int node_ranks = 8;              // neighbours that share a node
  double memory = 0;               // bytes of a rank; 0: as many as it takes
  double flops = 100e12;           // per second, in matrix products
  double node_bytes = 100e9;       // sent per second within a node
  double network_bytes = 25e9;     // and to other nodes
  double message_seconds = 10e-6;  // of each message, however small
};

struct StepEstimate {
  double memory = 0;                         // bytes of a rank
  double node_bytes = 0, network_bytes = 0;  // that a rank sends in a step
  double compute_seconds = 0;  // of operations, forward repeated by recompute included
  double idle_seconds = 0;     // waiting for other stages of a pipeline
  double link_seconds = 0;     // as if nothing were sent while a rank computes

  double seconds() const { return compute_seconds + idle_seconds + link_seconds; }
};

// Requires a config that was validated and says how large a step is.
StepEstimate estimate_step(const config::RunConfig& config, const MeshShape& mesh,
                           const AssumedMachine& machine);

// The meshes that a rank's memory allows, fastest first, with what that is estimated from: as text
// a line for each of the first 20, as JSON all.
std::string compare_meshes(const config::RunConfig& config, const std::vector<MeshShape>& meshes,
                           const AssumedMachine& machine, bool json);

}  // namespace switchyard::models
