// Every router's weights, after places and drops, against finite differences in float64: in the
// logits of its gates and of their noise, then in the router's input and parameters.

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "models/moe/losses/losses.h"
#include "models/moe/placement/placement.h"
#include "models/moe/router/draws.h"
#include "models/moe/router/router.h"
#include "models/moe/router/selection.h"
#include "tests/testing/finite_differences.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;

constexpr int64_t kTokens = 16, kExperts = 8, kGroups = 4;

config::Moe plain(int k, config::Weighting weighting) {
  config::Moe moe;
  moe.set_num_experts(kExperts);
  moe.set_top_k(k);
  config::Router& router = *moe.mutable_router();
  router.set_score(config::SOFTMAX);
  router.set_selection(config::TOP_K);
  router.set_weighting(weighting);
  router.set_weight_norm(1);
  router.set_route_scale(1);
  moe.mutable_capacity()->set_policy(config::NO_DROP);
  return moe;
}

config::Moe biased_groups() {
  config::Moe moe = plain(4, config::RENORMALIZE);
  moe.mutable_router()->set_score(config::SIGMOID);
  moe.mutable_router()->set_selection_bias(true);
  moe.mutable_router()->set_num_groups(4);
  moe.mutable_router()->set_group_top_k(2);
  moe.mutable_router()->set_group_score_experts(2);
  moe.mutable_router()->set_route_scale(2.5);
  return moe;
}

// DeepSeek-V2's gate; a device is a group.
config::Moe raw_groups() {
  config::Moe moe = plain(3, config::RAW);
  moe.set_num_devices(kGroups);
  moe.mutable_router()->set_num_groups(kGroups);
  moe.mutable_router()->set_group_top_k(2);
  moe.mutable_router()->set_group_score_experts(1);
  moe.mutable_router()->set_route_scale(16);
  return moe;
}

config::Moe noisy() {
  config::Moe moe = plain(3, config::RENORMALIZE);
  moe.mutable_router()->set_noise(config::LEARNED_NOISE);
  return moe;
}

config::Moe with(config::Moe moe, config::Selection selection) {
  moe.mutable_router()->set_selection(selection);
  return moe;
}

config::Moe dropping(config::Moe moe, config::DropPolicy policy) {
  moe.mutable_capacity()->set_policy(policy);
  moe.mutable_capacity()->set_train_factor(1);
  moe.mutable_capacity()->set_counts_k(true);
  return moe;
}

config::Moe next_free() {
  config::Moe moe = dropping(plain(1, config::RAW), config::NEXT_FREE);
  moe.mutable_capacity()->set_rounds(3);
  return moe;
}

config::Moe device_budget() {
  config::Moe moe = dropping(raw_groups(), config::DEVICE_BUDGET);
  moe.mutable_capacity()->set_group_sequences(4);
  moe.mutable_capacity()->set_exempt_share(0.3);
  return moe;
}

config::Moe later_choices(config::SecondChoice policy) {
  config::Moe moe = plain(3, config::RENORMALIZE);
  moe.mutable_router()->set_second_choice(policy);
  moe.mutable_router()->set_second_choice_threshold(0.3);
  moe.mutable_router()->set_later_choice_threshold(0.2);
  return moe;
}

config::Moe p_norm() {
  config::Moe moe = plain(3, config::RENORMALIZE);
  moe.mutable_router()->set_weight_norm(2);
  return moe;
}

config::Moe sampled_second() {
  config::Moe moe = plain(2, config::RENORMALIZE);
  moe.mutable_router()->set_second_choice(config::SAMPLED_SECOND);
  return moe;
}

config::Moe two_level() {
  config::Moe moe = noisy();
  moe.set_top_k(4);
  moe.mutable_router()->set_hierarchy(config::TWO_LEVEL);
  moe.mutable_router()->set_num_groups(kGroups);
  moe.mutable_router()->set_group_top_k(2);
  return moe;
}

config::Moe by_importance() {
  config::Moe moe = dropping(two_level(), config::BY_POSITION);
  moe.mutable_router()->set_hierarchy(config::TWO_LEVEL_BY_IMPORTANCE);
  moe.mutable_capacity()->set_second_level_factor(1);
  return moe;
}

config::Moe experts_choose_over(config::Score score) {
  config::Moe moe =
      with(dropping(plain(2, config::RAW), config::BY_PROBABILITY), config::EXPERT_CHOICE);
  moe.mutable_router()->set_score(score);
  return moe;
}

struct Case {
  const char* name;
  config::Moe moe;
};

struct RouterGradient : ::testing::TestWithParam<Case> {
  const config::Moe& moe = GetParam().moe;
  RouterInput input;
  RouterDraws draws;
  StepContext context;
  at::Tensor probe;

  static at::Tensor normal(int64_t width) { return at::randn({kTokens, width}, at::kDouble); }

  void SetUp() override {
    at::manual_seed(11);
    input.context.token_ids_T = at::arange(kTokens, at::kLong);
    input.context.training = context.training = true;
    input.context.group_tokens = context.group_tokens = context.count.in_step = kTokens;
    for (const auto& [leaf, width] : leaves()) *leaf = normal(width).requires_grad_();
    if (moe.router().selection_bias()) input.bias_E = at::randn({kExperts}, at::kDouble) * 0.1;
    if (moe.router().selection() == config::STRICTLY_BALANCED)
      input.threshold_E = at::full({kExperts}, 1.0 / kExperts, at::kDouble);
    draws.gumbel_TE = normal(kExperts);
    if (moe.router().noise() > config::NO_NOISE) {
      draws.normal_TE = normal(kExperts);
      draws.group_normal_TA = normal(kGroups);
    }
    probe = normal(num_choices(moe)).flatten();
  }

  // What this router computes its weights from, and the width of each.
  std::vector<std::pair<at::Tensor*, int64_t>> leaves() {
    std::vector<std::pair<at::Tensor*, int64_t>> leaves{{&input.logits_TE, kExperts}};
    const bool noise = moe.router().noise() == config::LEARNED_NOISE;
    if (noise) leaves.emplace_back(&input.noise_logits_TE, kExperts);
    if (moe.router().hierarchy() > config::ONE_LEVEL) {
      leaves.emplace_back(&input.group_logits_TA, kGroups);
      if (noise) leaves.emplace_back(&input.group_noise_logits_TA, kGroups);
    }
    return leaves;
  }

  Placement place(const Routing& routing) const {
    return place_slots(routing, moe, context, draw_for_assignment(moe, kTokens, context, 0));
  }
  // Of the slots that found a place.
  at::Tensor value() const {
    const Routing routing = route_logits(input, moe, draws);
    const Placement placement = place(routing);
    const at::Tensor weight = weights_after_drops(
        routing.weight_TK, kept_slots(placement, moe, at::kDouble), moe.router());
    const at::Tensor& kept = placement.assignment.order.slot_N;
    return (weight.flatten() * probe).index_select(0, kept).sum();
  }
};

TEST_P(RouterGradient, AgreesWithFiniteDifferences) {
  const bool all_ask = moe.router().second_choice() <= config::ALWAYS ||
                       moe.router().second_choice() == config::SAMPLED_SECOND;
  if (moe.capacity().policy() != config::NO_DROP || !all_ask) {
    const Placement placement = place(route_logits(input, moe, draws));
    EXPECT_LT(placement.assignment.order.slot_N.numel(), placement.assignment.position_TK.numel());
  }
  value().backward();
  for (const auto& [leaf, width] : leaves()) {
    ASSERT_TRUE(leaf->grad().defined());
    EXPECT_GT(leaf->grad().abs().max().item<double>(), 1e-3);
    expect_gradient(*leaf, leaf->grad(), [&] { return value().item<double>(); });
  }
}

INSTANTIATE_TEST_SUITE_P(
    Routers, RouterGradient,
    ::testing::Values(
        Case{"Switch", plain(1, config::RAW)}, Case{"Raw", plain(3, config::RAW)},
        Case{"Renormalized", plain(3, config::RENORMALIZE)}, Case{"PNorm", p_norm()},
        Case{"Dense", plain(8, config::RAW)}, Case{"BiasedGroups", biased_groups()},
        Case{"RawGroups", raw_groups()}, Case{"Noisy", noisy()}, Case{"TwoLevel", two_level()},
        Case{"ByImportance", by_importance()},
        Case{"Sampled", with(plain(2, config::RENORMALIZE), config::SAMPLED)},
        Case{"SampledSecond", sampled_second()},
        Case{"Hash", with(plain(2, config::RENORMALIZE), config::HASH)},
        Case{"Sinkhorn", with(plain(2, config::RAW), config::SINKHORN)},
        Case{"BalancedAssignment", with(plain(1, config::RAW), config::BALANCED_ASSIGNMENT)},
        Case{"ExpertChoice", experts_choose_over(config::SOFTMAX)},
        Case{"ExpertChoiceOverTokens", experts_choose_over(config::SOFTMAX_OVER_TOKENS)},
        Case{"StrictlyBalanced",
             with(dropping(plain(2, config::RENORMALIZE_KEPT), config::BY_PROBABILITY),
                  config::STRICTLY_BALANCED)},
        Case{"DroppingByPosition", dropping(plain(2, config::RENORMALIZE), config::BY_POSITION)},
        Case{"DroppingByProbability",
             dropping(plain(2, config::RENORMALIZE), config::BY_PROBABILITY)},
        Case{"DroppingAtRandom", dropping(plain(2, config::RENORMALIZE), config::AT_RANDOM_ORDER)},
        Case{"NextFree", next_free()}, Case{"DeviceBudget", device_budget()},
        Case{"LaterAtRandom", later_choices(config::AT_RANDOM)},
        Case{"LaterAboveThreshold", later_choices(config::ABOVE_THRESHOLD)},
        Case{"LaterNever", later_choices(config::NEVER)},
        Case{"RenormalizedAfterDrops",
             dropping(plain(2, config::RENORMALIZE_KEPT), config::BATCH_PRIORITIZED)}),
    [](const auto& instance) { return instance.param.name; });

config::Moe perturbed() {
  config::Moe moe = plain(3, config::RENORMALIZE);
  moe.mutable_router()->set_input_jitter(0.3);
  moe.mutable_router()->set_input_dropout(0.2);
  return moe;
}

// The class, which owns the gates' matrices and draws for itself.
struct WholeRouter : ::testing::TestWithParam<Case> {
  static constexpr int64_t kWidth = 5;

  static config::Moe drawn(config::Moe moe) {
    moe.mutable_router()->set_init_std(0.5);
    return moe;
  }
  const config::Moe moe = drawn(GetParam().moe);
  ParameterTable table;
  Router router{Scope(table) / "router", moe, kWidth, 0};
  StepContext context;
  at::Tensor x_TD, probe_TK;

  void SetUp() override {
    at::manual_seed(12);
    table.allocate(at::kDouble);
    table.initialize(7);
    x_TD = at::randn({kTokens, kWidth}, at::kDouble).requires_grad_();
    probe_TK = at::randn({kTokens, num_choices(moe)}, at::kDouble);
    context.training = true;
    context.group_tokens = context.count.in_step = context.count.in_micro_batch = kTokens;
  }
  // All that layers and losses take from it: weights, logits, probabilities, chances.
  at::Tensor value() const {
    const Routing routing = router.route(x_TD, context, {});
    const at::Tensor p = routing.probability_TE;
    const at::Tensor load = load_from(load_terms(routing, context), moe);
    return (routing.weight_TK * probe_TK).sum() + router_z_loss(routing.logits_TE, context) +
           p.square().sum() + cv_loss(load, context, 1);
  }
};

TEST_P(WholeRouter, AgreesWithFiniteDifferencesInItsInputAndEveryParameter) {
  value().backward();
  const auto number = [&] {
    const at::NoGradGuard no_grad;
    return value().item<double>();
  };
  EXPECT_GT(x_TD.grad().abs().max().item<double>(), 1e-3);
  expect_gradient(x_TD, x_TD.grad(), number);
  for (const Parameter& parameter : table.parameters()) {
    SCOPED_TRACE(parameter.name);
    EXPECT_EQ(parameter.trains, parameter.name != "router.selection_bias");
    const at::Tensor gradient =
        parameter.trains ? parameter.grad : at::zeros_like(parameter.master);
    EXPECT_EQ(gradient.abs().max().item<double>() > 1e-3, parameter.trains);
    expect_gradient(parameter.master, gradient, number);
  }
}

INSTANTIATE_TEST_SUITE_P(Routers, WholeRouter,
                         ::testing::Values(Case{"Perturbed", perturbed()}, Case{"Noisy", noisy()},
                                           Case{"TwoLevel", two_level()},
                                           Case{"BiasedGroups", biased_groups()}),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace switchyard::models
