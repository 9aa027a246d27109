#pragma once
// The language model of Shazeer et al. (2017), "Outrageously large neural networks": embedding,
// LSTM layers with a mixture of experts between them, softmax.
//
// Every layer but the softmax: dropout on its output, then the layer's input is added (not for the
// embedding, which has none). The mixture's output passes through a sigmoid before its dropout.

#include <ATen/core/Tensor.h>

#include "core/config/run_config.pb.h"
#include "core/tensor/parameter.h"
#include "models/text_model.h"
#include "parallel/mesh.h"

namespace switchyard::models {

class LstmLm : public TextModel {
 public:
  // num_layers counts LSTM layers; those that are MoE layers by config::is_moe_layer are followed
  // by a mixture of experts. Registers the parameters of the layers `held` and of what comes with
  // them below `root`, whose table must outlive the model, as must the mesh.
  LstmLm(const Scope& root, const config::Model& model, const parallel::Mesh& mesh,
         const Slice& held);

  Pass begin(const TokenBatch& batch, const StepContext& context, bool recompute) const override;

 private:
  Pass go_on(const at::Tensor& tokens_BS, const StepContext& context,
             const TextState& state) const override;
};

}  // namespace switchyard::models
