#pragma once
// The decoder-only transformer: embedding, pre-norm layers of attention and FFN (dense or MoE),
// final norm, vocabulary.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/text_model.h"
#include "parallel/mesh.h"

namespace switchyard::models {

class Decoder : public TextModel {
 public:
  // Registers the parameters of the layers `held` and of what comes with them below `root`, whose
  // table must outlive the decoder, as must the mesh.
  Decoder(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
          const Slice& held);

  Pass begin(const TokenBatch& batch, const StepContext& context, bool recompute) const override;
  // Adds what the model has learned of the positions, if it has; throws ConfigError for a position
  // that their table lacks.
  at::Tensor embed(const Pass& pass) const override;
  int64_t longest_text() const override;

 private:
  Pass go_on(const at::Tensor& tokens_BS, const StepContext& context,
             const TextState& state) const override;
  // The pass of tokens [B, S] at positions seen .. seen + S - 1, without a mask.
  Pass pass_at(int64_t seen, const at::Tensor& tokens_BS, const StepContext& context) const;

  Parameter* position_embedding_ = nullptr;  // where there is one, with the first layer
};

}  // namespace switchyard::models
