#pragma once
// The objective of models of text: the next token of each position, with the auxiliary losses of
// the output, which are the output z-loss and multi-token prediction.

#include <ATen/core/Tensor.h>

#include "models/batch.h"
#include "models/text_model.h"

namespace switchyard::models {

// This rank's share of a step's loss: `scale` * sum over targets >= 0 of -log p(target), a
// differentiable scalar, from the rows of the model's last layer [B*S, D]. In training the
// auxiliary losses join its gradient, not its value; theirs go to the context. **Collective** over
// the mesh where the model predicts more tokens. `pass` is that of the layers.
at::Tensor next_token_loss(const TextModel& model, const at::Tensor& x_TD, const TokenBatch& batch,
                           const Pass& pass, double scale);

// -log p(target) of each target, [B*S] float32 (float64), 0 where there is none, from the same
// rows. Outside autograd.
at::Tensor next_token_losses(const TextModel& model, const at::Tensor& x_TD,
                             const TokenBatch& batch, const Pass& pass);

}  // namespace switchyard::models
