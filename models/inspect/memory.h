#pragma once
// The memory of a training run, before anything is allocated. Requires a config that was validated.

#include <string>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"
#include "models/inspect/census.h"

namespace switchyard::models {

// Bytes of one rank at the peak of a step.
struct MemoryPlan {
  Memory parameters;  // and what training keeps with them
  // What each layer saves for backward, for each micro-batch in flight, of which a pipeline's
  // stages have several; experts at even load. With train.recompute, the layers' inputs and what
  // one layer saves.
  double activations = 0;
  // What exists only for a moment: a block of logits and the operands of its products, or the
  // gradients within the layer that backward is in, whichever is more.
  double transient = 0;
  double saving = 0;   // copies that a save in the background writes from
  double batches = 0;  // token ids that are ready for the next steps
  double program = 0;  // kernels that the matrix libraries build, the heap's loss: a measured mean
  double total() const;
};

// The plan of any rank of the stage that needs most, all of whose ranks hold and compute equally
// much. For decoders it is
// within a quarter of what a process grows by, as tests/trainer/run_memory_test.cc measures, and
// within a half for other architectures and for attention that keeps its scores. Routing that is
// far from even needs more. Unset, runtime.bfloat16_products counts as NATIVE, float32_products as
// MKL.
MemoryPlan memory_plan(const config::RunConfig& config, const MeshShape& mesh);

// "12.3 MiB", "4.56 GiB".
std::string format_bytes(double bytes);

// The plan as a table, one line per part that is not 0, and their sum.
std::string describe_memory(const config::RunConfig& config, const MemoryPlan& plan);

}  // namespace switchyard::models
