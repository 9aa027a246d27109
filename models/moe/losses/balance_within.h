#pragma once
// The balance loss of a two-level gate's gates within groups (Mesh-TensorFlow's form). A token
// enters in its best group alone, and with TWO_LEVEL_BY_IMPORTANCE only if that has place for it
// and more than half of its weight:
//     sum over groups a of (share of the tokens that enter in a) * I sum_i f_ai P_ai
// f_ai the fraction of those tokens that chose expert i of the group, P_ai their mean probability.
// The share of all tokens that enter at all if every group's gate is balanced. (Mesh-TensorFlow
// takes both means over all slots of a group, empty ones too, and thus counts the share twice.)

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"
#include "models/pass/routing.h"
#include "parallel/communicator.h"

namespace switchyard::models {

// The slope, as those of balance_slopes(), with the same `data` and `totals`. enters_T1 1 for
// tokens that enter, else 0.
at::Tensor balance_slope_within(const Routing& routing, const at::Tensor& enters_T1,
                                const config::Moe& moe, const StepContext& context,
                                parallel::Communicator& data, LoadTotals* totals);

// This rank's share of the loss from its slope.
at::Tensor balance_loss_within(const Routing& routing, const at::Tensor& enters_T1,
                               const at::Tensor& slope_GE);

}  // namespace switchyard::models
