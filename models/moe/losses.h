#pragma once
// The router's auxiliary losses beside balance.h, and how losses join the graph. Each loss is this
// rank's share of the value of the whole step, without its coefficient: shares add up over ranks
// and micro-batches, and so do their gradients. Padding counts nowhere.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/moe/context.h"
#include "models/moe/router.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// [T, ...] with the rows of padding set to zero.
at::Tensor without_padding(const at::Tensor& rows, const StepContext& context);

// Mean over tokens of logsumexp(logits)^2. ST-MoE equation 5.
at::Tensor router_z_loss(const at::Tensor& logits_TE, const StepContext& context);

// Of this rank's tokens, differentiable, [E] float64. Importance: the sum of the weights (2017,
// section 4). Load: the expected number of tokens under the noise (2017, appendix A); without
// noise, the number itself, which has no gradient.
at::Tensor importance_of(const Routing& routing, const StepContext& context);
at::Tensor load_of(const Routing& routing, const StepContext& context);

// The totals over ranks, constant. **Collective** over `data`.
at::Tensor total_over(const at::Tensor& local_E, parallel::Communicator& data);

// Squared coefficient of variation, population variance: var / (mean^2 + 1e-10).
at::Tensor cv_squared(const at::Tensor& total_E);

// CV^2 of `total` (from total_over) with the gradient to this rank's part of it; the mean over the
// step's micro-batches. `ranks` share the value.
at::Tensor cv_loss(const at::Tensor& local_E, const at::Tensor& total_E, const StepContext& context,
                   int64_t ranks);

// Returns x; in backward `loss` (a scalar) receives gradient 1, as if it had been added to the
// total. So an auxiliary loss needs no way out of the model, and recompute keeps it.
at::Tensor attach_loss(const at::Tensor& x, const at::Tensor& loss);

}  // namespace switchyard::models
