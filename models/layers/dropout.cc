#include "models/layers/dropout.h"

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "models/pass/draws.h"

namespace switchyard::models {
namespace {

// The products are float32 or wider and rounded once, to x's type: a factor of 1 / (1 - rate) that
// was itself rounded to bfloat16 would be wrong by up to 0.2 %, and every activation with it.
at::Tensor multiplied(const at::Tensor& x, const at::Tensor& factor) {
  return (x * factor).to(x.scalar_type());
}

struct Size {
  int64_t tokens, width;
};

// [tokens, width] float32: 0 with probability `rate`, else 1 / (1 - rate). `share`: which of the
// columns of all ranks these are.
at::Tensor factors_of(const Random& random, double rate, const TokenMap& map, const Size& size,
                      const Place& share = {}) {
  const double kept = 1 / (1 - rate);
  return fill_rows(size.tokens, size.width, at::kFloat, [&](int64_t token, int64_t i) {
    const int64_t all = map.global(token) * share.size + share.index;
    return random.uniform(all * size.width + i) < rate ? 0.0 : kept;
  });
}

}  // namespace

at::Tensor dropout(const at::Tensor& x_TN, double rate, const StepContext& context,
                   uint32_t layer) {
  if (!context.training || rate == 0) return x_TN;
  const Random random = context.key.random(Stream::kDropout, layer);
  return multiplied(x_TN,
                    factors_of(random, rate, own_tokens(context), {x_TN.size(0), x_TN.size(1)}));
}

at::Tensor InnerDropout::hidden_factors(int64_t num_tokens, int64_t width) const {
  if (rate == 0) return {};
  return factors_of(key.random(Stream::kFfnDropout, layer), rate, tokens, {num_tokens, width},
                    share);
}

at::Tensor InnerDropout::drop_weights(const at::Tensor& weight_BHSS) const {
  if (rate == 0) return weight_BHSS;
  const Random random = key.random(Stream::kAttentionDropout, layer);
  const int64_t sequences = weight_BHSS.size(0), heads = weight_BHSS.size(1),
                queries = weight_BHSS.size(2), keys = weight_BHSS.size(3);
  const at::Tensor factor_TN =
      factors_of(random, rate, tokens, {sequences * queries, heads * keys}, share);
  return multiplied(weight_BHSS, factor_TN.view({sequences, queries, heads, keys}).transpose(1, 2));
}

InnerDropout inner_dropout(double rate, const StepContext& context, uint32_t layer) {
  if (!context.training) return {};
  return {rate, context.key, layer, context.tokens, context.rows.place()};
}

}  // namespace switchyard::models
