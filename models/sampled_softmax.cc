#include "models/sampled_softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"

namespace switchyard::models {
namespace {

// ln(count * P(word)).
at::Tensor log_expected(const at::Tensor& word, const Candidates& candidates) {
  const at::Tensor w = word.to(at::kDouble);
  const at::Tensor probability =
      ((w + 2) / (w + 1)).log() / std::log(static_cast<double>(candidates.vocabulary) + 1);
  return (probability * static_cast<double>(candidates.word_N.numel())).log();
}

}  // namespace

Candidates draw_candidates(int64_t vocabulary, int64_t count, const StepContext& context) {
  const Random random = context.key.random(Stream::kSampledSoftmax);
  Candidates candidates{at::empty({count}, at::kLong), vocabulary};
  int64_t* word = candidates.word_N.mutable_data_ptr<int64_t>();
  const double range = std::log(static_cast<double>(vocabulary) + 1);
  for (int64_t i = 0; i < count; ++i) {
    const double uniform = static_cast<double>(random.bits64(i) >> 11) * 0x1p-53;
    word[i] = std::min(vocabulary - 1, static_cast<int64_t>(std::exp(uniform * range)) - 1);
  }
  return candidates;
}

at::Tensor sampled_softmax(const at::Tensor& hidden_TD, Parameter& weight,
                           const at::Tensor& targets_T, const Candidates& candidates,
                           double scale) {
  const at::ScalarType type = hidden_TD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor target_T = targets_T.clamp_min(0), &word_N = candidates.word_N;
  const at::Tensor own_T = (hidden_TD.to(type) * embedding(target_T, weight).to(type)).sum(-1) -
                           log_expected(target_T, candidates).to(type);
  const at::Tensor others_TN =
      (at::matmul(hidden_TD, embedding(word_N, weight).t()).to(type) -
       log_expected(word_N, candidates).to(type))
          .masked_fill(target_T.unsqueeze(1).eq(word_N), -std::numeric_limits<double>::infinity());
  const at::Tensor nll_T = at::concat({own_T.unsqueeze(1), others_TN}, 1).logsumexp(-1) - own_T;
  return (nll_T * targets_T.ge(0).to(type)).sum() * scale;
}

at::Tensor sampled_softmax_loss(const TextModel& model, const at::Tensor& x_TD,
                                const TokenBatch& batch, const Pass& pass, double scale) {
  const ProfiledPart part("sy::loss");
  const Candidates candidates = draw_candidates(
      model.config().vocab_size(), model.config().lstm().sampled_softmax(), pass.context);
  return sampled_softmax(model.head().hidden(x_TD, pass.context), model.head().weight(),
                         batch.targets_BS.flatten(), candidates, scale);
}

}  // namespace switchyard::models
