#pragma once
// Tiny models with experts, as configs on generated tokens.

#include "core/config/run_config.pb.h"

namespace switchyard::testing {

// 2 layers, d_model 16, 4 experts top-2, sequences of 12 tokens, 8 per step; every field that
// training reads is set.
config::RunConfig tiny_config();
// What a MoE sub-layer may have, all of it at once: two-matrix experts with dropout and biases, a
// gated shared expert of another activation, a dense sub-layer with dropout beside it.
config::RunConfig tiny_expert_forms(config::Stacking stacking);
// The other architectures as small, with every kind of randomness that they have.
config::RunConfig tiny_lstm_lm();
config::RunConfig tiny_encoder_decoder();
config::RunConfig tiny_local_experts();

}  // namespace switchyard::testing
