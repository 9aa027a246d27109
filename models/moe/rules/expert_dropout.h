#pragma once
// Dropout inside the experts, on their hidden layer (Switch Transformer section 2.4: a higher rate
// there than elsewhere when fine-tuning).

#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "models/pass/context.h"
#include "parallel/exchange.h"

namespace switchyard::models {

// Factors of the dispatched rows' hidden layer, [R, d_ff] float32: 0 with the experts' dropout
// rate, else 1 / (1 - rate); padding rows get some of them too. Drawn by global token, expert and
// feature, so that they are the same on any layout. Undefined when there is nothing to drop: no
// training, or rate 0. first_expert: the first that this rank holds.
// **Collective** over the plan's group unless the result is undefined.
at::Tensor expert_dropout_mask(const config::Moe& moe, const StepContext& context, uint32_t layer,
                               const std::shared_ptr<const parallel::ExchangePlan>& plan,
                               int64_t first_expert);

}  // namespace switchyard::models
