#pragma once
// Importance-sampled softmax (Jean et al., 2015): each target competes with a few sampled words
// instead of the whole vocabulary. For training only.

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "core/tensor/parameter.h"
#include "models/batch.h"
#include "models/pass/context.h"
#include "models/text_model.h"

namespace switchyard::models {

// Words [N] int64, drawn with replacement from P(w) = ln((w + 2) / (w + 1)) / ln(V + 1), which
// falls with the id as word frequencies do where ids are sorted by frequency. They are the same for
// the whole step on every rank.
at::Tensor draw_candidates(int64_t vocabulary, int64_t count, const StepContext& context);

// `scale` * sum over targets >= 0 of -log of the target's share among itself and the candidates,
// each logit lowered by the logarithm of how often its word is expected among the candidates. A
// candidate that is a row's target does not compete in that row. hidden [T, D]; weight [V, D];
// targets [T] int64, -1: no loss.
at::Tensor sampled_softmax(const at::Tensor& hidden_TD, Parameter& weight,
                           const at::Tensor& targets_T, const at::Tensor& candidates_N,
                           double scale);

// sampled_softmax() as an objective, with the signature of next_token_loss(): model.lstm says how
// many candidates there are.
at::Tensor sampled_softmax_loss(const TextModel& model, const at::Tensor& x_TD,
                                const TokenBatch& batch, const Pass& pass, double scale);

}  // namespace switchyard::models
