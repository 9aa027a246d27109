#pragma once
// Gradient reduction: after backward, every group's flat gradient is summed over the ranks that
// hold the same slice. A rank's loss is already its share of the whole step's (divided by the
// global token count), so sums need no factor, for experts as for everything else.

#include <vector>

#include "core/tensor/parameter.h"
#include "parallel/mesh.h"

namespace switchyard::parallel {

// The ranks over which a group's gradient is summed.
Communicator& replicas_of(const ParameterGroup& group, const Mesh& mesh);

// **Collective** over the mesh. In place, bucket by bucket in a fixed order; every replica gets the
// same bits.
void reduce_gradients(std::vector<ParameterGroup>& groups, const Mesh& mesh);

// In float64, in an order that does not depend on the number of threads. `values` is contiguous.
double sum_of_squares(const at::Tensor& values);

// **Collective** over the expert group. L2 norm of the whole model's reduced gradient: each expert
// shard enters once, each replicated tensor once.
double gradient_norm(const std::vector<ParameterGroup>& groups, const Mesh& mesh);

}  // namespace switchyard::parallel
