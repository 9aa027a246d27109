#pragma once
// Routing groups of about max_group_tokens tokens, as many as the config's rule says. Without
// max_group_tokens a group is a number of whole sequences, which the trainer knows.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"
#include "parallel/mesh.h"

namespace switchyard::models {

// The least number of groups that is a multiple of `multiple`, divides `tokens` and is at least
// tokens / max_group_tokens, rounded down. Requires: `multiple` divides `tokens`. (Mesh-TensorFlow,
// with the number of ranks; flaxformer, with the number of experts of all replicas.)
int64_t num_routing_groups(int64_t tokens, int64_t max_group_tokens, int64_t multiple);

// The context with the groups that max_group_tokens makes of a rank's tokens, x [rows, D] of this
// rank's share; where the rule needs padding, its tokens end in some that are not real.
StepContext in_groups(const at::Tensor& x_TD, const StepContext& context, const config::Moe& moe,
                      const parallel::Mesh& mesh);

// Rows [T, ...] with zero rows at the end, `count` in all; differentiable.
at::Tensor with_padding(const at::Tensor& rows, int64_t count);

}  // namespace switchyard::models
