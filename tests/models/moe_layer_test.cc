#include "models/moe/moe_layer.h"

#include <cmath>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/config/mesh_shape.h"
#include "models/moe/placement/capacity.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;
using switchyard::testing::tiny_config;

constexpr int64_t kTokens = 24, kGroup = 12;

struct Layer {
  Layer(const config::Model& model, parallel::Communicator& world,
        at::ScalarType type = at::kDouble)
      : mesh(world, config::mesh_shape({}, model, world.size())),
        layer(Scope(table, mesh.layout()) / "moe", model, mesh, 0, 0) {
    table.allocate(type);
    table.initialize(7);
  }
  Parameter& parameter(const std::string& name) {
    for (Parameter& p : table.parameters()) {
      if (p.name == name) return p;
    }
    throw CheckError("no parameter " + name);
  }

  parallel::Mesh mesh;
  ParameterTable table;
  MoeLayer layer;
};

StepContext context() {
  StepContext c;
  c.training = true;
  c.key.seed = 1;
  c.group_tokens = kGroup;
  c.count.in_step = c.count.in_micro_batch = kTokens;
  return c;
}

at::Tensor input() {
  at::manual_seed(4);
  return at::randn({kTokens, 16}, at::kDouble);
}

config::Model model_with(config::DropPolicy policy, double factor, bool shared) {
  config::Model model = tiny_config().model();
  auto& capacity = *model.mutable_moe()->mutable_capacity();
  capacity.set_policy(policy);
  capacity.set_train_factor(factor);
  capacity.set_eval_factor(factor);
  capacity.set_minimum(1);
  if (shared) {
    model.mutable_moe()->mutable_shared_expert()->set_count(1);
    model.mutable_moe()->mutable_shared_expert()->set_d_ff(8);
    model.mutable_moe()->mutable_shared_expert()->set_ffn(config::SWIGLU);
  }
  return model;
}

at::Tensor swiglu(const at::Tensor& x, const at::Tensor& w13, const at::Tensor& w2) {
  const auto parts = at::mv(w13, x).chunk(2);
  return at::mv(w2, at::silu(parts[0]) * parts[1]);
}

// The layer token by token, with plain autograd tensors: routing by hand, capacity by counting,
// losses from their definitions over the whole batch.
struct Reference {
  explicit Reference(Layer& fast) {
    const auto copy = [&](const char* name) {
      return fast.parameter(name).master.clone().view(fast.parameter(name).shape).requires_grad_();
    };
    router = copy("moe.router.weight");
    w13 = copy("moe.experts.w13");
    w2 = copy("moe.experts.w2");
  }

  at::Tensor forward(const at::Tensor& x, const config::Moe& moe) {
    const int64_t experts = moe.num_experts(), k = moe.top_k();
    const at::Tensor logits = at::mm(x, router.t()), p = logits.softmax(-1);
    const int64_t capacity = capacity_of(moe, true, kGroup);
    std::vector<std::vector<int64_t>> chosen(kTokens);
    std::vector<double> load(experts);
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t j = 0; j < k; ++j) {
        int64_t best = -1;
        for (int64_t e = 0; e < experts; ++e) {
          if (std::count(chosen[t].begin(), chosen[t].end(), e)) continue;
          if (best < 0 || p[t][e].item<double>() > p[t][best].item<double>()) best = e;
        }
        chosen[t].push_back(best);
        load[best] += 1.0 / static_cast<double>(kTokens * k);
      }
    }
    std::vector<at::Tensor> y(kTokens, at::zeros({x.size(1)}, at::kDouble));
    for (int64_t g = 0; g < kTokens; g += kGroup) {
      std::vector<int64_t> used(experts);
      for (int64_t j = 0; j < k; ++j) {
        for (int64_t t = g; t < g + kGroup; ++t) {
          const int64_t e = chosen[t][j];
          if (moe.capacity().policy() != config::NO_DROP && used[e]++ >= capacity) continue;
          at::Tensor sum = at::zeros({}, at::kDouble);
          for (const int64_t other : chosen[t]) sum = sum + p[t][other];
          y[t] = y[t] + p[t][e] / sum * swiglu(x[t], w13[e], w2[e]);
        }
      }
    }
    const at::Tensor balance =
        static_cast<double>(experts) * (at::tensor(load, at::kDouble) * p.mean(0)).sum();
    auxiliary = moe.balance_loss().coefficient() * balance +
                moe.z_loss_coefficient() * logits.logsumexp(-1).square().mean();
    return at::stack(y);
  }

  at::Tensor router, w13, w2, auxiliary;
};

struct MoeLayerTest : ::testing::TestWithParam<std::tuple<config::DropPolicy, double>> {};

TEST_P(MoeLayerTest, EqualsATokenByTokenReferenceWithAllGradients) {
  const auto [policy, factor] = GetParam();
  const config::Model model = model_with(policy, factor, false);
  const auto world = parallel::make_single();
  Layer fast(model, *world);
  Reference slow(fast);

  const at::Tensor probe = at::randn({kTokens, 16}, at::kDouble);
  at::Tensor x_fast = input().requires_grad_(), x_slow = input().requires_grad_();
  RoutingDecision decision;
  const at::Tensor y_fast = fast.layer.forward(x_fast, context(), decision);
  const at::Tensor y_slow = slow.forward(x_slow, model.moe());
  EXPECT_TRUE(is_near(y_fast, y_slow));
  (y_fast * probe).sum().backward();
  ((y_slow * probe).sum() + slow.auxiliary).backward();
  EXPECT_TRUE(is_near(x_fast.grad(), x_slow.grad()));
  EXPECT_TRUE(is_near(fast.parameter("moe.router.weight").grad, slow.router.grad()));
  EXPECT_TRUE(is_near(fast.parameter("moe.experts.w13").grad, slow.w13.grad()));
  EXPECT_TRUE(is_near(fast.parameter("moe.experts.w2").grad, slow.w2.grad()));
}

INSTANTIATE_TEST_SUITE_P(Policies, MoeLayerTest,
                         ::testing::Values(std::tuple(config::NO_DROP, 1.0),
                                           std::tuple(config::BY_POSITION, 0.5),
                                           std::tuple(config::BY_POSITION, 4.0)));

TEST(MoeLayer, GradientsAgreeWithFiniteDifferences) {
  config::Model model = model_with(config::NO_DROP, 1, true);
  // The balance loss is not the derivative of its value (the load has no gradient), so it stays out
  // of this check.
  model.mutable_moe()->mutable_balance_loss()->set_coefficient(0);
  model.mutable_moe()->set_z_loss_coefficient(0);
  const auto world = parallel::make_single();
  Layer instance(model, *world);
  const at::Tensor probe = at::randn({kTokens, 16}, at::kDouble), x = input();
  const auto value = [&] {
    const at::NoGradGuard no_grad;
    RoutingDecision decision;
    return (instance.layer.forward(x, context(), decision) * probe).sum().item<double>();
  };
  RoutingDecision decision;
  (instance.layer.forward(x.detach().requires_grad_(), context(), decision) * probe)
      .sum()
      .backward();
  for (Parameter& parameter : instance.table.parameters()) {
    SCOPED_TRACE(parameter.name);
    expect_gradient(parameter.master, parameter.grad, value,
                    {.tolerance = 1e-5, .most_elements = 7});
  }
}

TEST(MoeLayer, ATokenWithoutAPlaceGetsZero) {
  config::Model model = model_with(config::BY_POSITION, 0.01, false);
  const auto world = parallel::make_single();
  Layer instance(model, *world);
  RoutingDecision decision;
  const at::Tensor y = instance.layer.forward(input(), context(), decision);
  const at::Tensor has_place = decision.plan->row_of_slot_TK.ge(0).any(1);
  EXPECT_LT(has_place.sum().item<int64_t>(), kTokens);
  EXPECT_TRUE(at::equal(y.abs().sum(1).gt(0), has_place));
}

TEST(MoeLayer, AMadeDecisionIsObeyedAndNotCountedAgain) {
  const auto world = parallel::make_single();
  Layer instance(model_with(config::NO_DROP, 1, false), *world);
  std::vector<RoutingSums> sums(1);
  StepContext c = context();
  c.routing.sums = &sums;
  RoutingDecision decision;
  const at::Tensor first = instance.layer.forward(input(), c, decision);
  const at::Tensor ids = decision.expert_TK.clone();
  const at::Tensor second = instance.layer.forward(input(), c, decision);
  EXPECT_TRUE(at::equal(first, second));
  EXPECT_TRUE(at::equal(ids, decision.expert_TK));
  const auto stats = numbers_of(sums);
  EXPECT_EQ(stats[0].tokens, kTokens);
  instance.layer.forward(input() + 5, c, decision);  // other logits, same decision
  EXPECT_TRUE(at::equal(ids, decision.expert_TK));
}

TEST(MoeLayer, PaddingIsNeitherRoutedNorCounted) {
  const auto world = parallel::make_single();
  Layer instance(model_with(config::NO_DROP, 1, false), *world);
  std::vector<RoutingSums> sums(1);
  StepContext c = context();
  c.training = false;
  c.is_real_T = first_are_real(10, kTokens);
  c.routing.sums = &sums;
  RoutingDecision decision;
  const at::Tensor y = instance.layer.forward(input(), c, decision);
  const auto stats = numbers_of(sums);
  EXPECT_EQ(stats[0].tokens, 10);
  EXPECT_EQ(stats[0].slots, 20);
  EXPECT_EQ(std::accumulate(stats[0].load.begin(), stats[0].load.end(), int64_t{0}), 20);
  EXPECT_EQ(y.slice(0, 10).abs().sum().item<double>(), 0);
}

// One routing group with padding in it against the same tokens alone: padding makes no room either.
struct PaddedLayer : ::testing::TestWithParam<config::DropPolicy> {};

TEST_P(PaddedLayer, GivesWhatItsTokensGiveAlone) {
  const auto world = parallel::make_single();
  Layer instance(model_with(GetParam(), 0.7, false), *world);
  const at::Tensor is_real = at::arange(kTokens, at::kLong).remainder(3).ne(1);
  const int64_t num_real = is_real.sum().item<int64_t>();
  std::vector<RoutingSums> sums(1), sums_alone(1);
  StepContext c = context();
  c.count.in_step = c.count.in_micro_batch = num_real;
  c.is_real_T = is_real;
  c.group_tokens = kTokens;
  c.routing.sums = &sums;
  RoutingDecision decision, decision_alone;
  const at::Tensor y = instance.layer.forward(input(), c, decision);
  c.is_real_T = at::Tensor();
  c.group_tokens = num_real;
  c.routing.sums = &sums_alone;
  const at::Tensor expected = instance.layer.forward(
      input().index_select(0, is_real.nonzero().squeeze(1)), c, decision_alone);
  EXPECT_TRUE(is_near(y.index_select(0, is_real.nonzero().squeeze(1)), expected));
  const auto with_padding = numbers_of(sums), alone = numbers_of(sums_alone);
  EXPECT_EQ(with_padding[0].dropped > 0, GetParam() != config::NO_DROP);
  EXPECT_EQ(with_padding[0].dropped, alone[0].dropped);
  EXPECT_EQ(with_padding[0].load, alone[0].load);
  EXPECT_EQ(with_padding[0].tokens, num_real);
  EXPECT_NEAR(with_padding[0].losses[RouterLoss::kBalance], alone[0].losses[RouterLoss::kBalance],
              1e-12);
  EXPECT_NEAR(with_padding[0].losses[RouterLoss::kZ], alone[0].losses[RouterLoss::kZ], 1e-12);
  EXPECT_NEAR(with_padding[0].router_entropy, alone[0].router_entropy, 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Policies, PaddedLayer,
                         ::testing::Values(config::NO_DROP, config::BY_POSITION,
                                           config::BATCH_PRIORITIZED, config::BY_PROBABILITY),
                         [](const auto& test) { return config::DropPolicy_Name(test.param); });

TEST(MoeLayer, ReplaysGivenChoices) {
  const auto world = parallel::make_single();
  Layer instance(model_with(config::NO_DROP, 1, false), *world);
  const std::vector<at::Tensor> replay = {
      at::stack({at::arange(kTokens, at::kLong).remainder(4),
                 at::arange(1, kTokens + 1, at::kLong).remainder(4)},
                1)};
  StepContext c = context();
  c.replay = &replay;
  RoutingDecision decision;
  instance.layer.forward(input(), c, decision);
  EXPECT_TRUE(at::equal(decision.expert_TK, replay[0]));
}

TEST(MoeLayer, NoTokensAreLegalOnAnyRank) {
  parallel::ThreadGroup(2).run([](parallel::Communicator& world) {
    at::set_num_threads(1);
    Layer instance(model_with(config::NO_DROP, 1, true), world);
    at::Tensor x = world.rank() == 0 ? input() : at::empty({0, 16}, at::kDouble);
    x.requires_grad_();
    RoutingDecision decision;
    const at::Tensor y = instance.layer.forward(x, context(), decision);
    y.sum().backward();
    EXPECT_EQ(y.size(0), x.size(0));
    EXPECT_TRUE(instance.parameter("moe.experts.w2").grad.abs().sum().item<double>() > 0);
  });
}

TEST(Router, JitterIsAFunctionOfTheGlobalToken) {
  config::Model model = model_with(config::NO_DROP, 1, false);
  model.mutable_moe()->mutable_router()->set_input_jitter(0.2);
  const auto world = parallel::make_single();
  Layer instance(model, *world);
  ParameterTable table;
  const models::Router router(Scope(table), model.moe(), 16, 0);
  table.allocate(at::kDouble);
  table.initialize(1);
  StepContext c = context();
  const at::Tensor x = input();
  const at::Tensor whole = router.route(x, c, {}).logits_TE;
  c.tokens = TokenMap(10);
  EXPECT_TRUE(at::equal(router.route(x.slice(0, 10), c, {}).logits_TE, whole.slice(0, 10)));
  c.training = false;
  EXPECT_FALSE(at::equal(router.route(x.slice(0, 10), c, {}).logits_TE, whole.slice(0, 10)));
}

// A dense FFN cut into four shards, twice: with equal router logits the four shards of one copy are
// chosen, and the layer is the FFN over `factor` (Nvidia's virtual groups, 2024).
double dense_over_sharded(config::Weighting weighting) {
  constexpr int64_t kShards = 4, kCopies = 2, kHidden = 8, kWidth = 16;
  config::Model model = model_with(config::NO_DROP, 1, false);
  model.mutable_moe()->set_num_experts(kShards * kCopies);
  model.mutable_moe()->set_top_k(kShards);
  model.mutable_moe()->set_d_ff(kHidden / kShards);
  model.mutable_moe()->mutable_router()->set_weighting(weighting);
  const auto world = parallel::make_single();
  Layer sharded(model, *world);
  const at::Tensor gate = at::randn({kHidden, kWidth}, at::kDouble),
                   up = at::randn({kHidden, kWidth}, at::kDouble),
                   down = at::randn({kWidth, kHidden}, at::kDouble);
  const at::NoGradGuard no_grad;
  for (int64_t e = 0; e < kShards * kCopies; ++e) {
    const int64_t rows = kHidden / kShards, first = e % kShards * rows;
    const auto slice = [&](const at::Tensor& m, int64_t axis) {
      return m.narrow(axis, first, rows);
    };
    sharded.parameter("moe.experts.w13")
        .master[e]
        .copy_(at::concat({slice(gate, 0), slice(up, 0)}));
    sharded.parameter("moe.experts.w2").master[e].copy_(slice(down, 1));
  }
  sharded.parameter("moe.router.weight").master.zero_();
  RoutingDecision decision;
  const at::Tensor x = input();
  const at::Tensor dense = at::mm(at::silu(at::mm(x, gate.t())) * at::mm(x, up.t()), down.t());
  const at::Tensor ratio = dense / sharded.layer.forward(x, context(), decision);
  EXPECT_TRUE(is_near(ratio, at::full_like(ratio, ratio[0][0].item<double>()), 1e-10));
  return ratio[0][0].item<double>();
}

TEST(MoeLayer, AShardedFfnIsTheFfnOverAKnownFactor) {
  EXPECT_NEAR(dense_over_sharded(config::RENORMALIZE), 4, 1e-10);  // shards
  EXPECT_NEAR(dense_over_sharded(config::RAW), 8, 1e-10);          // copies * shards^2 / top_k
}

}  // namespace
}  // namespace switchyard::models
