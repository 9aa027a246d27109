#include "models/moe/router/draws.h"

#include <cmath>

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "models/moe/router/selection.h"
#include "models/pass/draws.h"
#include "models/pass/on_host.h"

namespace switchyard::models {
namespace {

double gumbel(float uniform) {
  const double inside = static_cast<double>(uniform) + 0x1p-25;  // never 0
  return -std::log(-std::log(inside));
}

}  // namespace

RouterDraws draw_for_router(const config::Moe& moe, int64_t tokens, const StepContext& context,
                            uint32_t layer, at::ScalarType type) {
  RouterDraws draws;
  if (!context.training) return draws;
  const config::Router& router = moe.router();
  if (router.noise() > config::NO_NOISE) {
    const bool two_levels = router.hierarchy() > config::ONE_LEVEL;
    const Random random =
        context.key.random(two_levels ? Stream::kGroupNoise : Stream::kRouterNoise, layer);
    const int64_t width = two_levels ? router.num_groups() : moe.num_experts();
    (two_levels ? draws.group_normal_TA : draws.normal_TE) = draw_by_token(
        context.tokens, tokens, width, type, [&](int64_t i) { return random.normal(i); });
  }
  if (router.selection() == config::SAMPLED || router.second_choice() == config::SAMPLED_SECOND) {
    const Random random = context.key.random(Stream::kRouterSample, layer);
    draws.gumbel_TE = draw_by_token(context.tokens, tokens, moe.num_experts(), type,
                                    [&](int64_t i) { return gumbel(random.uniform(i)); });
  }
  return draws;
}

at::Tensor draw_within_groups(const config::Moe& moe, const at::Tensor& group_TL,
                              const StepContext& context, uint32_t layer, at::ScalarType type) {
  if (!context.training || moe.router().noise() != config::LEARNED_NOISE) return {};
  const Random random = context.key.random(Stream::kRouterNoise, layer);
  const int64_t kept = group_TL.size(1), size = moe.num_experts() / moe.router().num_groups();
  const at::Tensor chosen_TL = on_host(group_TL);
  const int64_t* group = chosen_TL.const_data_ptr<int64_t>();
  return fill_rows(group_TL.size(0), kept * size, type, [&](int64_t t, int64_t i) {
    const int64_t expert = group[t * kept + i / size] * size + i % size;
    return random.normal(context.tokens.global(t) * moe.num_experts() + expert);
  });
}

AssignDraws draw_for_assignment(const config::Moe& moe, int64_t tokens, const StepContext& context,
                                uint32_t layer) {
  AssignDraws draws;
  if (!context.training) return draws;
  const config::Capacity& capacity = moe.capacity();
  const auto uniforms = [&](Stream stream, int64_t width) {
    const Random random = context.key.random(stream, layer);
    return draw_by_token(context.tokens, tokens, width, at::kFloat,
                         [&](int64_t i) { return random.uniform(i); });
  };
  if (moe.router().second_choice() == config::AT_RANDOM) {
    draws.uniform_TN = uniforms(Stream::kSecondExpert, moe.top_k() - 1);
  }
  if (capacity.policy() == config::AT_RANDOM_ORDER) {
    draws.lot_TK = uniforms(Stream::kDrop, num_choices(moe));
  }
  if (capacity.policy() == config::DEVICE_BUDGET && capacity.exempt_share() > 0) {
    const Random random = context.key.random(Stream::kDrop);  // the same in every layer
    const int64_t length = context.group_tokens / capacity.group_sequences();
    const at::Tensor draw_T1 =
        draw_by_token(context.tokens, tokens, 1, at::kFloat,
                      [&](int64_t token) { return random.uniform(token / length); });
    draws.exempt_T1 = draw_T1.to(at::kDouble).lt(capacity.exempt_share());
  }
  return draws;
}

at::Tensor perturb_input(const at::Tensor& x_TD, const config::Router& router,
                         const StepContext& context, uint32_t layer) {
  if (!context.training) return x_TD;
  const int64_t tokens = x_TD.size(0), width = x_TD.size(1);
  const TokenMap tokens_here = own_tokens(context);
  at::Tensor x = x_TD;
  if (router.input_jitter() > 0) {
    const Random random = context.key.random(Stream::kRouterJitter, layer);
    const auto epsilon = static_cast<float>(router.input_jitter());
    x = x * draw_by_token(tokens_here, tokens, width, x.scalar_type(),
                          [&](int64_t i) { return 1 - epsilon + 2 * epsilon * random.uniform(i); });
  }
  if (router.input_dropout() > 0) {
    const Random random = context.key.random(Stream::kRouterDropout, layer);
    const double rate = router.input_dropout(), scale = 1 / (1 - rate);
    x = x * draw_by_token(tokens_here, tokens, width, x.scalar_type(),
                          [&](int64_t i) { return random.uniform(i) < rate ? 0.0 : scale; });
  }
  return x;
}

}  // namespace switchyard::models
