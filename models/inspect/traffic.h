#pragma once
// What the ranks of a training run send each other, before anything is started. Requires a config
// that was validated and says how large a step is.

#include <string>
#include <vector>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"

namespace switchyard::models {

// What one rank sends to the others of its group along an axis, in one step.
struct TrafficTerm {
  Axis axis;
  std::string name;  // "rows to experts and back"
  double bytes = 0;
  double messages = 0;  // to single ranks
};

// Of a rank of the stage that sends most, over the axes that have more than one rank. Rows go to
// experts at even load and none is dropped, so that the share that stays on a rank is one over the
// size of its group. What ranks agree on and log is left out: it is a few numbers.
std::vector<TrafficTerm> traffic_per_step(const config::RunConfig& config, const MeshShape& mesh);

// The share of what rank 0 sends along the axis that goes to other nodes, if every node has
// `node_ranks` ranks in order.
double share_between_nodes(const MeshShape& mesh, Axis axis, int node_ranks);

}  // namespace switchyard::models
