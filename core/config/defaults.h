#pragma once
// The one place that gives unset fields their values.

#include "core/config/run_config.pb.h"

namespace switchyard::config {

// Fills every unset scalar that has a default. Left unset on purpose:
//   - what only the user can say: model.{num_layers, d_model, vocab_size}, attention.num_heads,
//     moe.{num_experts, d_ff}, model.d_ff when a layer is dense, train.{steps, global_batch},
//     a source's path; validation asks for them;
//   - mesh.data and mesh.expert: unset means "as the ranks allow", and a run may resume on others;
//   - what an optimizer's kind, a schedule or an initializer does not use, such as optimizer.beta1
//     with SGD, and all else that nothing reads in this config (core/config/unused_fields.h);
//   - the preset names, whose content is merged by then.
// The groups model.moe, model.mtp, moe.shared_expert, attention.latent, attention.yarn, data.table
// and data.synthetic mean something by their presence and are never made here.
void apply_defaults(RunConfig& config);

}  // namespace switchyard::config
