#pragma once
// Which layers each stage of a pipeline holds.

#include <string>
#include <vector>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"

namespace switchyard::models {

// One slice of the layers for each of `stages` stages, in order, so that the stage with the most
// operations has as few as can be: the logits count with the last layer, and multi-token
// prediction. Where it makes no difference later stages have more layers, since earlier ones keep
// the activations of more micro-batches. Requires: as many layers as stages.
std::vector<Slice> stage_layers(const config::RunConfig& config, int stages);

// The stages with their layers and their shares of the operations, one line each, and how long they
// wait for each other; empty for one stage.
std::string describe_stages(const config::RunConfig& config, int stages);

}  // namespace switchyard::models
