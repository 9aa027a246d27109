#include "models/moe/router.h"

#include <algorithm>

#include <ATen/Dispatch.h>
#include <ATen/record_function.h>

#include "core/base/random.h"
#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

constexpr int64_t kGrainTokens = 256;

// Round-robin or Zipf(1) choices that ignore the scores: a known load, for benchmarks and tests.
at::Tensor forced_selection(int64_t tokens, int64_t k, int64_t num_experts, int64_t first_token,
                            bool skewed) {
  at::Tensor ids = at::empty({tokens, k}, at::kLong);
  auto* id = ids.mutable_data_ptr<int64_t>();
  std::vector<double> cumulative(num_experts);
  double total = 0;
  for (int64_t e = 0; e < num_experts; ++e) {
    cumulative[e] = total += 1.0 / static_cast<double>(e + 1);
  }
  const Random random(0, Stream::kSynthetic);
  for (int64_t t = 0; t < tokens; ++t) {
    int64_t first = (first_token + t) * k % num_experts;
    if (skewed) {
      const double draw = random.uniform(first_token + t) * total;
      first = std::upper_bound(cumulative.begin(), cumulative.end(), draw) - cumulative.begin();
    }
    for (int64_t j = 0; j < k; ++j) id[t * k + j] = (first + j) % num_experts;
  }
  return ids;
}

}  // namespace

at::Tensor top_k_lowest_id(const at::Tensor& score_TE, int64_t k) {
  const at::Tensor score = score_TE.detach().contiguous();
  const int64_t tokens = score.size(0), experts = score.size(1);
  at::Tensor ids = at::empty({tokens, k}, at::kLong);
  auto* id = ids.mutable_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES(score.scalar_type(), "top_k_lowest_id", [&] {
    const auto* scores = score.const_data_ptr<scalar_t>();
    at::parallel_for(0, tokens, kGrainTokens, [&](int64_t begin, int64_t end) {
      std::vector<int64_t> order(experts);
      for (int64_t t = begin; t < end; ++t) {
        const auto* row = scores + t * experts;
        for (int64_t e = 0; e < experts; ++e) order[e] = e;
        const auto before = [row](int64_t a, int64_t b) {
          return row[a] > row[b] || (row[a] == row[b] && a < b);
        };
        std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
        std::copy_n(order.begin(), k, id + t * k);
      }
    });
  });
  return ids;
}

at::Tensor choice_weights(const at::Tensor& chosen_score_TK, const config::Router& router) {
  at::Tensor weight = chosen_score_TK;
  if (router.weighting() == config::RENORMALIZE) {
    weight = weight / (router.weight_norm() == 1 ? weight.sum(-1, true)
                                                 : weight.norm(router.weight_norm(), {-1}, true));
  }
  return router.route_scale() == 1 ? weight : weight * router.route_scale();
}

Router::Router(const Scope& scope, const config::Moe& moe, int64_t d_model, uint32_t layer,
               double init_std)
    : options_(moe.router()),
      num_experts_(moe.num_experts()),
      top_k_(moe.top_k()),
      layer_(layer),
      weight_(scope.parameter("weight", {moe.num_experts(), d_model}, {Init::kNormal, init_std})) {}

Routing Router::route(const at::Tensor& x_TD, const StepContext& context,
                      const at::Tensor& chosen) const {
  RECORD_USER_SCOPE("sy::router");
  const auto type = x_TD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor input_TD = x_TD.to(type);
  if (context.training && options_.input_jitter() > 0) input_TD = jitter(input_TD, context);

  Routing routing;
  routing.logits_TE = at::mm(input_TD, use(weight_, type).t());
  const bool softmax = options_.score() == config::SOFTMAX;
  const at::Tensor score_TE = softmax ? routing.logits_TE.softmax(-1) : routing.logits_TE.sigmoid();
  routing.probability_TE = softmax ? score_TE : score_TE / score_TE.sum(-1, true);
  routing.expert_TK = chosen.defined() ? chosen : select(score_TE, context);
  routing.weight_TK = choice_weights(score_TE.gather(-1, routing.expert_TK), options_);
  return routing;
}

at::Tensor Router::jitter(const at::Tensor& x_TD, const StepContext& context) const {
  const Random random(context.seed, Stream::kRouterJitter, context.step, layer_);
  const auto epsilon = static_cast<float>(options_.input_jitter());
  at::Tensor factor = at::empty(x_TD.sizes(), at::kFloat);
  auto* value = factor.mutable_data_ptr<float>();
  const int64_t first = context.first_token * x_TD.size(1);
  at::parallel_for(0, factor.numel(), kGrainTokens, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      value[i] = 1 - epsilon + 2 * epsilon * random.uniform(first + i);
    }
  });
  return x_TD * factor.to(x_TD.scalar_type());
}

at::Tensor Router::select(const at::Tensor& score_TE, const StepContext& context) const {
  if (options_.selection() == config::TOP_K) return top_k_lowest_id(score_TE, top_k_);
  return forced_selection(score_TE.size(0), top_k_, num_experts_, context.first_token,
                          options_.selection() == config::FORCED_SKEWED);
}

}  // namespace switchyard::models
