#pragma once
// Any of the architectures behind one interface; model.architecture chooses. What a step minimises
// is an objective, a function of parts of a model: next_token.h, sampled_softmax.h; for local
// experts their case_errors().

#include <memory>
#include <optional>

#include <ATen/core/Tensor.h>

#include "core/base/layout.h"
#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/local_experts.h"
#include "models/text_model.h"
#include "parallel/mesh.h"

namespace switchyard::models {

// The type of activations that runtime.compute asks for.
at::ScalarType compute_type(const config::RunConfig& config);

// The objective that the config asks of a model of text, from the rows of its last layer:
// sampled_softmax_loss() in training where it has that, else next_token_loss(), whose contract it
// has.
at::Tensor text_loss(const TextModel& model, const at::Tensor& x_TD, const TokenBatch& batch,
                     const Pass& pass, double scale);

class Model {
 public:
  // Registers all parameters below `root`, with the initialisation that the config asks for. Their
  // table must outlive the model, as must the mesh.
  Model(const Scope& root, const config::Model& model, const parallel::Mesh& mesh)
      : Model(root, model, mesh, {0, model.num_layers()}) {}
  // Only those of the layers `held` and of what comes with them. Of decoders; others hold all.
  Model(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
        const Slice& held);

  // This stage's part of a micro-batch: the rows that enter its layers, which the first stage does
  // not read, become those that leave them or, where the head is, the loss, as loss() returns it.
  // **Collective** over the stage's ranks.
  at::Tensor forward(const at::Tensor& x_TD, const TokenBatch& batch, const StepContext& context,
                     double scale, bool recompute) const;
  // This rank's share of the step's loss: `scale` * sum over targets, a differentiable scalar,
  // which must enter the total with coefficient 1. recompute: each layer of a model of text runs
  // again in backward. **Collective** over the mesh. Requires: all layers are held.
  at::Tensor loss(const TokenBatch& batch, const StepContext& context, double scale,
                  bool recompute) const {
    return forward({}, batch, context, scale, recompute);
  }

  // The loss of each target, [B*S] float32 (float64), 0 where there is none: -log p(target), or a
  // case's error. Undefined where the head is not. Outside autograd; **collective** over the mesh.
  at::Tensor losses(const TokenBatch& batch, const StepContext& context) const;

  // Throws ConfigError for an architecture that classifies cases and knows no text.
  const TextModel& text() const;

 private:
  std::unique_ptr<TextModel> text_;  // exactly one of the two
  std::optional<LocalExperts> local_experts_;
};

}  // namespace switchyard::models
