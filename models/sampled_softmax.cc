#include "models/sampled_softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/OpMathType.h>

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"

namespace switchyard::models {
namespace {

// ln(count * P(word)) of each word of a vocabulary.
at::Tensor log_expected(const at::Tensor& word, int64_t vocabulary, int64_t count) {
  const at::Tensor w = word.to(at::kDouble);
  const at::Tensor probability =
      ((w + 2) / (w + 1)).log() / std::log(static_cast<double>(vocabulary) + 1);
  return (probability * static_cast<double>(count)).log();
}

}  // namespace

at::Tensor draw_candidates(int64_t vocabulary, int64_t count, const StepContext& context) {
  const Random random = context.key.random(Stream::kSampledSoftmax);
  at::Tensor word_N = at::empty({count}, at::kLong);
  int64_t* word = word_N.mutable_data_ptr<int64_t>();
  const double range = std::log(static_cast<double>(vocabulary) + 1);
  for (int64_t i = 0; i < count; ++i) {
    const double uniform = static_cast<double>(random.bits64(i) >> 11) * 0x1p-53;
    word[i] = std::min(vocabulary - 1, static_cast<int64_t>(std::exp(uniform * range)) - 1);
  }
  return word_N;
}

at::Tensor sampled_softmax(const at::Tensor& hidden_TD, Parameter& weight,
                           const at::Tensor& targets_T, const at::Tensor& candidates_N,
                           double scale) {
  const at::ScalarType type = at::toOpMathType(hidden_TD.scalar_type());
  const auto log_expected_of = [&](const at::Tensor& word) {
    return log_expected(word, weight.shape[0], candidates_N.numel()).to(type);
  };
  const at::Tensor target_T = targets_T.clamp_min(0);
  const at::Tensor own_T = (hidden_TD.to(type) * embedding(target_T, weight).to(type)).sum(-1) -
                           log_expected_of(target_T);
  const at::Tensor others_TN =
      (at::matmul(hidden_TD, embedding(candidates_N, weight).t()).to(type) -
       log_expected_of(candidates_N))
          .masked_fill(target_T.unsqueeze(1).eq(candidates_N),
                       -std::numeric_limits<double>::infinity());
  const at::Tensor nll_T = at::concat({own_T.unsqueeze(1), others_TN}, 1).logsumexp(-1) - own_T;
  return (nll_T * targets_T.ge(0).to(type)).sum() * scale;
}

at::Tensor sampled_softmax_loss(const TextModel& model, const at::Tensor& x_TD,
                                const TokenBatch& batch, const Pass& pass, double scale) {
  const ProfiledPart part("sy::loss");
  const at::Tensor candidates_N = draw_candidates(
      model.config().vocab_size(), model.config().lstm().sampled_softmax(), pass.context);
  return sampled_softmax(model.head().hidden(x_TD, pass.context), model.head().weight(),
                         batch.targets_BS.flatten(), candidates_N, scale);
}

}  // namespace switchyard::models
