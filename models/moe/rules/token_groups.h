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

// One rank's part of a micro-batch, for the router.
struct GroupedTokens {
  at::Tensor x_TD;      // with rows of zeros at the end where the rule needs padding
  StepContext context;  // of those rows: their groups, and which rows are padding
};
GroupedTokens group_tokens(const at::Tensor& x_TD, const StepContext& context,
                           const config::Moe& moe, const parallel::Mesh& mesh);

}  // namespace switchyard::models
