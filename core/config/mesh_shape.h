#pragma once
// How the ranks of a run are arranged: the degrees that its config asks for, checked, and the
// others chosen.

#include <string>
#include <vector>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Every reason why `ranks` ranks cannot be arranged for the model as asked, one line each; none:
// mesh_shape() will succeed. ranks 0 (not known yet) leaves out the rules about them.
std::vector<std::string> mesh_problems(const Mesh& asked, const Model& model, int ranks);

// Unset tensor, pipeline and expert-tensor degrees are 1; an unset expert degree is as large as
// divides both the experts and a stage's ranks over expert-tensor, 1 without experts; the data
// degree is the rest. Throws ConfigError with all of mesh_problems().
MeshShape mesh_shape(const Mesh& asked, const Model& model, int ranks);

}  // namespace switchyard::config
