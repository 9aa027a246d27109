#include "models/moe/router/router.h"

#include <cmath>
#include <utility>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/profiled_part.h"
#include "core/tensor/top_k.h"
#include "models/moe/router/draws.h"
#include "models/moe/router/selection.h"
#include "models/moe/rules/balanced_selection.h"
#include "models/moe/rules/fixed_choice.h"
#include "models/moe/rules/gate_noise.h"
#include "models/moe/rules/token_groups.h"
#include "models/moe/rules/two_level.h"
#include "models/moe/rules/weighting.h"

namespace switchyard::models {
namespace {

at::Tensor select_by_score(const at::Tensor& score_TE, const RouterInput& input,
                           const config::Moe& moe, const RouterDraws& draws) {
  const config::Router& router = moe.router();
  at::Tensor score = score_TE.detach();
  if (input.bias_E.defined()) score = score + input.bias_E;
  if (router.num_groups() > 1) score = keep_best_groups(score, router);
  const bool sample_second =
      router.second_choice() == config::SAMPLED_SECOND && draws.gumbel_TE.defined();
  return sample_second ? best_and_sampled(score, draws.gumbel_TE)
                       : top_k_lowest_id(score, num_choices(moe));
}

at::Tensor select(const at::Tensor& score_TE, const RouterInput& input, const config::Moe& moe,
                  const RouterDraws& draws) {
  const int64_t tokens = score_TE.size(0), choices = num_choices(moe);
  const StepContext& context = input.context;
  switch (moe.router().selection()) {
    case config::SAMPLED:
      return draws.gumbel_TE.defined() ? sample_by_score(score_TE, draws.gumbel_TE, choices)
                                       : top_k_lowest_id(score_TE, choices);
    case config::HASH:
      SY_CHECK(context.token_ids_T.defined() && context.token_ids_T.size(0) == tokens,
               "hash routing of {} tokens needs their ids in the step's context", tokens);
      return hash_choice(context.token_ids_T, moe.num_experts(), choices, context.key.seed);
    case config::FORCED_UNIFORM:
    case config::FORCED_SKEWED:
      return forced_choice(tokens, choices, moe.num_experts(), context.tokens,
                           moe.router().selection() == config::FORCED_SKEWED);
    case config::EXPERT_CHOICE:
    case config::STRICTLY_BALANCED:
      return at::arange(choices, at::kLong).expand({tokens, choices}).contiguous();
    case config::SINKHORN:
      return top_k_lowest_id(
          context.training ? sinkhorn(input.logits_TE, context.group_tokens, context.is_real_T)
                           : score_TE,
          choices);
    case config::BALANCED_ASSIGNMENT:
      return context.training
                 ? balanced_assignment(input.logits_TE, context.group_tokens, context.is_real_T)
                 : top_k_lowest_id(score_TE, choices);
    default:
      return select_by_score(score_TE, input, moe, draws);
  }
}

Init init_of(const config::Router& router, int64_t d_model) {
  const double deviation = router.has_init_std() ? router.init_std() : config::kInitStd;
  if (deviation == 0) return {Init::kConstant, 0};  // which no other rule replaces
  Init init{Init::kNormal, deviation};
  init.is_own = router.initializer() > config::AS_MODEL;
  if (router.initializer() == config::KAIMING_UNIFORM) {
    init.kind = Init::kUniform;
    init.value = 1 / std::sqrt(static_cast<double>(d_model));
  }
  return init;
}

// ROUTER_BF16 rounds each result, and its gradient, to bfloat16; the type stays, for the operations
// after it.
at::Tensor rounded(const at::Tensor& x, const config::Router& router) {
  const bool rounds = router.precision() == config::ROUTER_BF16 && x.defined();
  return rounds ? x.to(at::kBFloat16).to(x.scalar_type()) : x;
}

NoisyLogits with_noise(const RouterInput& input, const config::Router& router,
                       const RouterDraws& draws) {
  return router.noise() == config::FIXED_NOISE
             ? add_fixed_noise(input.logits_TE, router.noise_std(), draws.normal_TE)
             : add_noise(input.logits_TE, input.noise_logits_TE, draws.normal_TE);
}

at::Tensor softmax_over_tokens(const at::Tensor& logits_TE, const RouterInput& input) {
  const StepContext& context = input.context;
  at::Tensor logits = logits_TE;
  if (context.is_real_T.defined()) {
    const at::Tensor padding = context.is_real_T.logical_not().unsqueeze(1);
    logits = logits.masked_fill(padding, -1e30);  // finite: a group may be all padding
  }
  return logits.view({-1, context.group_tokens, logits.size(1)}).softmax(1).view(logits.sizes());
}

}  // namespace

Routing route_logits(RouterInput input, const config::Moe& moe, const RouterDraws& draws) {
  const config::Router& router = moe.router();
  if (router.hierarchy() > config::ONE_LEVEL) return route_two_levels(input, moe, draws);
  input.logits_TE = rounded(input.logits_TE, router);
  input.noise_logits_TE = rounded(input.noise_logits_TE, router);
  Routing routing;
  routing.logits_TE = input.logits_TE;
  routing.threshold_E = input.threshold_E;
  NoisyLogits noise = with_noise(input, router, draws);
  noise.noisy_TE = rounded(noise.noisy_TE, router);
  const bool sigmoid = router.score() == config::SIGMOID;
  at::Tensor score_TE =
      rounded(sigmoid ? noise.noisy_TE.sigmoid() : noise.noisy_TE.softmax(-1), router);
  routing.probability_TE =
      sigmoid ? rounded(score_TE / positive(score_TE.sum(-1, true)), router) : score_TE;
  if (router.score() == config::SOFTMAX_OVER_TOKENS) {
    score_TE = rounded(softmax_over_tokens(noise.noisy_TE, input), router);
  }
  routing.expert_TK =
      input.chosen_TK.defined() ? input.chosen_TK : select(score_TE, input, moe, draws);
  const at::Tensor chosen_score_TK = score_TE.gather(-1, routing.expert_TK);
  routing.score_TK = chosen_score_TK.detach();
  routing.weight_TK = rounded(choice_weights(chosen_score_TK, router), router);
  routing.chance_TE = chance_of_choice(input.logits_TE, noise, moe.top_k());
  return routing;
}

Router::Router(const Scope& scope, const config::Moe& moe, int64_t d_model, uint32_t layer)
    : moe_(moe), layer_(layer) {
  const Init init = init_of(moe.router(), d_model);
  if (moe.router().weighting() != config::EQUAL) {  // which needs no logits
    weight_ = &scope.matrix("weight", {moe.num_experts(), d_model}, init);
  }
  const bool noisy = moe.router().noise() == config::LEARNED_NOISE;
  if (noisy) noise_weight_ = &scope.matrix("noise_weight", {moe.num_experts(), d_model}, init);
  if (moe.router().hierarchy() > config::ONE_LEVEL) {
    const std::vector<int64_t> shape = {moe.router().num_groups(), d_model};
    const Scope groups = scope.of_router(-1);  // no row of these is an expert's
    group_weight_ = &groups.matrix("group_weight", shape, init);
    if (noisy) group_noise_weight_ = &groups.matrix("group_noise_weight", shape, init);
  }
  if (moe.router().selection() == config::STRICTLY_BALANCED) {  // starts at the even probability
    threshold_ = &scope.vector("threshold", {moe.num_experts()}, Use::kShift,
                               {Init::kConstant, 1.0 / static_cast<double>(moe.num_experts())});
    threshold_->needs_whole_master = true;
  }
  if (moe.router().selection_bias()) {
    selection_bias_ = &scope.vector("selection_bias", {moe.num_experts()}, Use::kSelectionBias,
                                    {Init::kConstant, 0});
  }
}

// What is decided about: the tokens of all ranks that see them, and padding behind them.
int64_t routed_tokens(const at::Tensor& share_TD, const StepContext& context) {
  return context.is_real_T.defined() ? context.is_real_T.size(0) : context.rows.count(share_TD);
}

Routing Router::route(const at::Tensor& x_TD, const StepContext& context,
                      const at::Tensor& chosen) const {
  const ProfiledPart part("sy::router");
  const auto type = x_TD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const config::Router& options = moe_.router();
  const at::Tensor input_TD =
      rounded(perturb_input(rounded(x_TD.to(type), options), options, context, layer_), options);
  const Rows& rows = context.rows;
  const int64_t tokens = routed_tokens(x_TD, context);
  RouterDraws draws = draw_for_router(moe_, tokens, context, layer_, type);
  RouterInput input;
  input.chosen_TK = chosen;
  // Not a Dense: a router multiplies in float32 at least, whatever the compute type, and always by
  // LibTorch's product, so that runtime.float32_products sends no token elsewhere.
  const auto of_all_rows = [&](const at::Tensor& own) {
    return with_padding(rows.gather_for_all(own), tokens);
  };
  const auto all_logits = [&](Parameter& weight) {
    return of_all_rows(at::mm(input_TD, rounded(use(weight, type), options).t()));
  };
  if (group_weight_) {
    input.group_logits_TA = all_logits(*group_weight_);
    if (draws.group_normal_TA.defined()) {
      input.group_noise_logits_TA = all_logits(*group_noise_weight_);
    }
    input.group_TL = choose_groups(input, moe_, draws);
    draws.normal_TE = draw_within_groups(moe_, input.group_TL, context, layer_, type);
  }
  const auto logits_of = [&](Parameter& weight) {
    if (!group_weight_) return all_logits(weight);
    const at::Tensor group_TL = input.group_TL.narrow(0, rows.first(), x_TD.size(0));
    return of_all_rows(
        logits_within_groups(input_TD, use(weight, type), group_TL, options.num_groups()));
  };
  input.logits_TE = weight_ ? logits_of(*weight_) : at::zeros({tokens, moe_.num_experts()}, type);
  if (noise_weight_ && draws.normal_TE.defined()) {
    input.noise_logits_TE = logits_of(*noise_weight_);
  }
  // The master copies: in bf16 a step of 0.001 would be lost.
  if (threshold_) input.threshold_E = rows.once(use_master(*threshold_, type));
  if (selection_bias_) input.bias_E = selection_bias_->master.to(type);
  input.context = context;
  return route_logits(std::move(input), moe_, draws);
}

}  // namespace switchyard::models
