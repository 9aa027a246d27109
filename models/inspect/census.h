#pragma once
// What a model is made of, counted from its parameter table: the model's constructor fills one, and
// no tensor is allocated, so that a model of any size can be looked at. Requires a config that was
// validated.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"

namespace switchyard::models {

struct Component {
  std::string name;
  int64_t total = 0;  // parameters
  int64_t active =
      0;  // of these, what one token uses: top_k of num_experts experts, all of the rest
  // Of the active, those of matrices that a token's vector is multiplied with: any token's; a
  // target token's of an encoder-decoder.
  int64_t multiplied = 0, multiplied_by_target = 0;
};

struct Census {
  // The model has some of embedding, attention (experts and routers of its projections included),
  // lstm, router, experts, shared_expert, dense_ffn, norms, output, gate (of local experts).
  std::vector<Component> components;
  int64_t total = 0, active = 0;
  // Multi-token prediction's, which the model drops after training: not in the above.
  Component training_only{"mtp"};
};

// Counts a model's parameters. A tied output matrix is the embedding's and counted there. The whole
// embedding counts as active.
Census census(const config::Model& model);
// Of the layers `held` of a decoder and of what comes with them.
Census census(const config::Model& model, const Slice& held);

// Bytes of one rank for parameters and what training keeps with them; activations come on top.
// Every rank of a stage holds as much as any other, since parts are dealt evenly; where a sharded
// optimizer deals whole parameters, these are the bytes of the rank that owns most.
struct Memory {
  int64_t parameters;  // local: the experts are cut over the expert degree, the rest is whole
  int64_t value_bytes, master_bytes, gradient_bytes, moment_bytes;
  int64_t total_bytes() const { return value_bytes + master_bytes + gradient_bytes + moment_bytes; }
};

// Bytes per parameter that trains, with AdamW: BF16 2 + 4 + 4 + 8 (value, float32 master, gradient,
// two moments), FP32 4 + 0 + 4 + 8, FP64 8 + 0 + 8 + 16. Other optimizers have moments of their own
// sizes. A sharded one divides masters and moments by the ranks that hold the same. `held`: the
// layers of the stage (models/inspect/stages.h).
Memory memory_per_rank(const config::RunConfig& config, const MeshShape& mesh, int stage,
                       const Slice& held);
// Of a mesh of one stage.
inline Memory memory_per_rank(const config::RunConfig& config, const MeshShape& mesh) {
  return memory_per_rank(config, mesh, 0, {0, config.model().num_layers()});
}

// How many numbers that train a rank of the stage holds, which holds the layers `held`, by the axes
// over which their gradients are summed.
std::map<AxisSet, int64_t> summed_gradients(const config::Model& model, const MeshShape& mesh,
                                            int stage, const Slice& held);

}  // namespace switchyard::models
