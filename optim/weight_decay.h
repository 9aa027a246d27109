#pragma once
// Which parameters decay.

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"

namespace switchyard::optim {

// Matters of the optimizer's config: norms' weights and token embeddings decay as decay_norms and
// decay_embeddings say, and as the model registered them where these are unset. Before the table is
// allocated, which puts what decays together.
void choose_weight_decay(const config::Optimizer& options, ParameterTable& table);

}  // namespace switchyard::optim
