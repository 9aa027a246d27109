#pragma once
// Dropout inside the experts, on their hidden layer (Switch Transformer section 2.4: a higher rate
// there than elsewhere when fine-tuning).

#include <cstdint>
#include <memory>

#include <ATen/core/Tensor.h>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"
#include "models/pass/context.h"
#include "parallel/exchange.h"

namespace switchyard::models {

// What this rank holds of a layer's experts: which of them, and which features of their hidden
// layers.
struct HeldExperts {
  Slice experts, features;
};

// Factors of the dispatched rows' hidden layer, [R, features held] float32: 0 with the experts'
// dropout rate, else 1 / (1 - rate); padding rows get some of them too. Drawn by global token,
// expert and feature, so that they are the same on any layout. Undefined when there is nothing to
// drop: no training, or rate 0.
// **Collective** over the plan's groups unless the result is undefined.
at::Tensor expert_dropout_mask(const config::Moe& moe, const StepContext& context, uint32_t layer,
                               const std::shared_ptr<const parallel::ExchangePlan>& plan,
                               const HeldExperts& held);

}  // namespace switchyard::models
