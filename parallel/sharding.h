#pragma once
// The sharded optimizer's side of communication (docs/decisions/0016-sharded-optimizer.md). Each
// master weight and what the optimizer keeps with it has one owner among the ranks that hold the
// parameter; every rank has the whole value, in the compute type. core/tensor/dealing.h says who
// owns what, parallel/gradients.h brings owners the gradients.

#include <span>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "parallel/mesh.h"

namespace switchyard::parallel {

// How the optimizer's state can be dealt: moments of rows and columns only with their parameter.
// Before the table is arranged.
void choose_dealing(const config::Optimizer& optimizer, ParameterTable& table);

// **Collective** over the axes that groups are dealt over. Makes the values of all parameters those
// of their masters.
void refresh_values(std::span<ParameterGroup> groups, const Mesh& mesh);

// **Collective** over the axis that the parameter's group is dealt over. The numbers of the local
// elements in `range`, of which `stretches` are this rank's: parameter.owned, or what is owned like
// it. [range.size()].
at::Tensor gather_owned(const Parameter& parameter, std::span<const Stretch> stretches,
                        const Slice& range, const Mesh& mesh);

}  // namespace switchyard::parallel
