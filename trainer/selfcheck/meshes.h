#pragma once
// Every mesh that a run's config allows on so many ranks.

#include <string>
#include <vector>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"

namespace switchyard::trainer {

// Those with the degrees that `fixed` sets, in the order of their degrees, whatever mesh the config
// itself asks for. ConfigError, with every rule that is in the way, if there is none.
std::vector<config::Mesh> legal_meshes(const config::RunConfig& config, int ranks,
                                       const config::Mesh& fixed = {});

// Of the meshes as few as need be: each axis that has several ranks in one of them has in one of
// these, and so has each pair of axes.
std::vector<config::Mesh> covering(std::vector<config::Mesh> meshes, const config::Model& model,
                                   int ranks);

// "data 4, expert 2": the degrees above 1; "one rank" if none is.
std::string name_of(const config::Mesh& mesh);

// The axes that more than one rank stands along; those of experts only where the model has some.
AxisSet axes_of(const config::Mesh& mesh, const config::Model& model, int ranks);

}  // namespace switchyard::trainer
