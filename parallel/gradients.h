#pragma once
// Gradient reduction: after backward, every group's flat gradient is summed over the ranks that
// hold the same slice. A rank's loss is already its share of the whole step's (divided by the
// global token count), so sums need no factor, for experts as for everything else.

#include <span>

#include "core/tensor/parameter.h"
#include "parallel/mesh.h"

namespace switchyard::parallel {

// **Collective** over the mesh. In place, of groups that train: one all-reduce for each group and
// axis, and those of one axis are under way together. Every replica gets the same bits. Throws
// CheckError for a gradient that is not complete (ParameterTable::end_forward).
void reduce_gradients(std::span<ParameterGroup> groups, const Mesh& mesh);

// In float64, in an order that does not depend on the number of threads. `values` is contiguous.
double sum_of_squares(const at::Tensor& values);

// **Collective** over the axes that parameters are dealt over, and over the stages. L2 norm of the
// whole model's reduced gradient: each piece enters once, however many ranks hold it.
double gradient_norm(std::span<const ParameterGroup> groups, const Mesh& mesh);

}  // namespace switchyard::parallel
