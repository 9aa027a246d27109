// Over which tokens a balance loss takes its load fractions: those of the step so far on all ranks,
// or this rank's alone.

#include <algorithm>
#include <cmath>
#include <iterator>
#include <memory>
#include <set>
#include <string>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/config/mesh_shape.h"
#include "core/tensor/top_k.h"
#include "models/moe/losses/balance.h"
#include "models/moe/losses/losses.h"
#include "models/moe/moe_layer.h"
#include "models/moe/router/selection.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/models/router_cases.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::config_of;
using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;
using switchyard::testing::RouterCase;

constexpr int64_t kMicroBatches = 3, kTokens = 4, kExperts = 4, kChoices = 2, kDevices = 2;

// A step of three micro-batches at a router with every balance loss that it can have.
struct Step {
  config::Moe moe;
  std::vector<at::Tensor> logits;  // [kTokens, kExperts] of each micro-batch

  Step() {
    moe.set_num_experts(kExperts);
    moe.set_top_k(kChoices);
    moe.set_num_devices(kDevices);
    moe.mutable_router()->set_num_groups(kDevices);
    moe.mutable_router()->set_group_top_k(kDevices);
    config::BalanceLoss& balance = *moe.mutable_balance_loss();
    balance.set_load(config::ALL_CHOICES);
    balance.set_statistics(config::GLOBAL_BATCH);
    balance.set_second_place(true);
    balance.set_coefficient(1);
    balance.set_device_coefficient(1);
    balance.set_communication_coefficient(1);
    at::manual_seed(6);
    for (int64_t m = 0; m < kMicroBatches; ++m) {
      logits.push_back((at::randn({kTokens, kExperts}, at::kDouble) * 2).requires_grad_());
    }
  }
  static StepContext context(int64_t tokens) {
    StepContext context;
    context.training = true;
    context.group_tokens = tokens;
    context.count.in_step = kMicroBatches * kTokens;
    return context;
  }
  static Routing routing_of(const at::Tensor& logits_TE, const at::Tensor& expert_TK) {
    return {logits_TE, logits_TE.softmax(-1), expert_TK, {}, {}};
  }
};

struct Values {
  double balance = 0, device = 0, communication = 0;
};

// The losses by their definitions, token by token: fractions of micro-batches 0 to m, probabilities
// of m alone.
Values slow_losses(const Step& step) {
  double first[kExperts] = {}, second[kExperts] = {}, sent[kDevices] = {}, tokens = 0;
  Values values;
  for (int64_t m = 0; m < kMicroBatches; ++m) {
    double p[kExperts] = {}, p2[kExperts] = {};
    for (int64_t t = 0; t < kTokens; ++t) {
      double probability[kExperts], sum = 0;
      for (int64_t e = 0; e < kExperts; ++e) {
        sum += probability[e] = std::exp(step.logits[m][t][e].item<double>());
      }
      const auto best = std::max_element(probability, probability + kExperts) - probability;
      const double others = sum - probability[best];
      int64_t next = best == 0 ? 1 : 0;
      for (int64_t e = 0; e < kExperts; ++e) {
        p[e] += probability[e] / sum / kTokens;
        if (e == best) continue;
        p2[e] += probability[e] / others / kTokens;
        if (probability[e] > probability[next]) next = e;
      }
      ++first[best];
      ++second[next];
      const int64_t device = best * kDevices / kExperts, other = next * kDevices / kExperts;
      ++sent[device];
      sent[other] += other != device;
      ++tokens;
    }
    for (int64_t e = 0; e < kExperts; ++e) {
      values.balance += kExperts * (first[e] + second[e]) / (kChoices * tokens) * p[e];
      values.balance += kExperts / 2.0 * second[e] / tokens * p2[e];
    }
    for (int64_t g = 0; g < kDevices; ++g) {
      const int64_t each = kExperts / kDevices;
      double load = 0, mass = 0;
      for (int64_t e = g * each; e < (g + 1) * each; ++e) {
        load += kExperts * (first[e] + second[e]) / (kChoices * tokens) / static_cast<double>(each);
        mass += p[e];
      }
      values.device += load * mass;
      values.communication += sent[g] / tokens * mass;
    }
  }
  for (double* value : {&values.balance, &values.device, &values.communication}) {
    *value /= kMicroBatches;
  }
  return values;
}

// The step on one of several ranks that share its tokens.
RoutingStats losses_on(const Step& step, parallel::Communicator& world) {
  const int64_t tokens = kTokens / world.size();
  LoadTotals totals;
  std::vector<RoutingSums> sums(1);
  at::Tensor total = at::zeros({}, at::kDouble);
  for (const at::Tensor& all : step.logits) {
    const at::Tensor logits = all.narrow(0, world.rank() * tokens, tokens);
    const Routing routing = Step::routing_of(logits, top_k_lowest_id(logits, kChoices));
    RoutingDecision decision;
    decide_losses(routing, step.moe, Step::context(tokens), world, &totals, decision);
    total = total + router_losses(routing, step.moe, Step::context(tokens), decision, world.size(),
                                  sums[0]);
  }
  total.backward();
  std::vector<RoutingStats> stats = numbers_of(sums);
  reduce_stats(stats, world);
  return stats[0];
}

void expect_values(const RoutingStats& actual, const Values& expected) {
  EXPECT_NEAR(actual.losses[RouterLoss::kBalance], expected.balance, 1e-12);
  EXPECT_NEAR(actual.losses[RouterLoss::kDevice], expected.device, 1e-12);
  EXPECT_NEAR(actual.losses[RouterLoss::kCommunication], expected.communication, 1e-12);
}

TEST(GlobalBatch, CountsTheLoadOfTheStepsMicroBatchesUpToEach) {
  const Step step;
  expect_values(losses_on(step, *parallel::make_single()), slow_losses(step));
}

TEST(GlobalBatch, IsTheSameOnAnyNumberOfRanks) {
  const Step alone;
  const Values expected = slow_losses(alone);
  losses_on(alone, *parallel::make_single());
  for (const int ranks : {2, 4}) {
    std::vector<Step> steps(ranks);
    parallel::ThreadGroup(ranks).run([&](parallel::Communicator& world) {
      at::set_num_threads(1);
      expect_values(losses_on(steps[world.rank()], world), expected);
    });
    for (size_t m = 0; m < kMicroBatches; ++m) {
      at::Tensor gradient = at::zeros({kTokens, kExperts}, at::kDouble);
      for (const Step& own : steps) gradient = gradient + own.logits[m].grad();
      EXPECT_TRUE(is_near(gradient, alone.logits[m].grad(), 1e-12)) << ranks << " ranks";
    }
  }
}

TEST(GlobalBatch, HasTheGradientOfEachMicroBatchAtTheFractionsSoFar) {
  const Step step;
  const auto world = parallel::make_single();
  losses_on(step, *world);
  const StepContext context = Step::context(kTokens);
  LoadTotals totals;
  for (const at::Tensor& logits : step.logits) {
    const at::Tensor expert_TK = top_k_lowest_id(logits, kChoices);
    RoutingDecision constant;
    decide_losses(Step::routing_of(logits, expert_TK), step.moe, context, *world, &totals,
                  constant);
    EXPECT_GT(logits.grad().abs().max().item<double>(), 1e-3);
    expect_gradient(logits, logits.grad(), [&] {
      RoutingSums unused;
      return router_losses(Step::routing_of(logits, expert_TK), step.moe, context, constant, 1,
                           unused)
          .item<double>();
    });
  }
}

// A layer of one of the router cases: the values of its losses and the router's gradient to them
// alone, of rows `first` on of the same 24 tokens.
struct LayerLosses {
  RoutingStats stats;
  at::Tensor gradient;
};
LayerLosses layer_losses(const config::Model& model, parallel::Communicator& world, int64_t first,
                         int64_t tokens, int64_t tokens_in_step) {
  const parallel::Mesh mesh(world, config::mesh_shape({}, model, world.size()));
  ParameterTable table;
  const MoeLayer layer(Scope(table, mesh.layout()) / "moe", model, mesh, 0, 0);
  table.allocate(at::kDouble);
  table.initialize(7);
  std::vector<RoutingSums> sums(1);
  StepContext context;
  context.training = true;
  context.key.seed = 1;
  context.tokens = TokenMap(first);
  context.group_tokens = 6;
  context.count.in_step = context.count.in_micro_batch = tokens_in_step;
  context.routing.sums = &sums;
  if (model.moe().layer_aggregation() == config::POOLED_LAYERS) {
    context.routing.pool = std::make_shared<PooledBalance>(1);
  }
  const at::Tensor x = at::linspace(-2, 3, 24 * 16, at::kDouble).mul(11).sin().view({24, 16});
  RoutingDecision decision;
  (layer.forward(x.narrow(0, first, tokens), context, decision) * 0).sum().backward();
  std::vector<at::Tensor> gradients;
  for (const Parameter& p : table.parameters()) {
    if (p.name.starts_with("moe.router.")) gradients.push_back(p.grad.flatten());
  }
  return {numbers_of(sums)[0], at::concat(gradients)};
}

struct PerRank : ::testing::TestWithParam<RouterCase> {
  static config::Model model(config::Statistics statistics) {
    config::Model model = config_of(GetParam()).model();
    config::Moe& moe = *model.mutable_moe();
    moe.mutable_balance_loss()->set_statistics(statistics);
    moe.set_importance_loss_coefficient(0);  // of all ranks, whatever the statistics
    moe.set_load_loss_coefficient(0);
    return model;
  }
};

void expect_same(const LayerLosses& actual, const LayerLosses& expected, double tolerance) {
  EXPECT_NEAR(actual.stats.losses[RouterLoss::kBalance],
              expected.stats.losses[RouterLoss::kBalance], tolerance);
  EXPECT_NEAR(actual.stats.losses[RouterLoss::kDevice], expected.stats.losses[RouterLoss::kDevice],
              tolerance);
  EXPECT_NEAR(actual.stats.losses[RouterLoss::kCommunication],
              expected.stats.losses[RouterLoss::kCommunication], tolerance);
  EXPECT_GT(actual.gradient.abs().max().item<double>(), 1e-6);
  EXPECT_TRUE(is_near(actual.gradient, expected.gradient, tolerance));
}

TEST_P(PerRank, OnOneRankIsThatOfTheGlobalBatch) {
  const auto world = parallel::make_single();
  expect_same(layer_losses(model(config::PER_RANK), *world, 0, 24, 24),
              layer_losses(model(config::GLOBAL_BATCH), *world, 0, 24, 24), 0);
}

// 6 tokens and 18: a rank counts by its tokens.
TEST_P(PerRank, OnTwoRanksIsTheMeanOfWhatEachIsAlone) {
  const auto world = parallel::make_single();
  const LayerLosses first = layer_losses(model(config::PER_RANK), *world, 0, 6, 6),
                    second = layer_losses(model(config::PER_RANK), *world, 6, 18, 18);
  LayerLosses mean;
  mean.stats.losses[RouterLoss::kBalance] = .25 * first.stats.losses[RouterLoss::kBalance] +
                                            .75 * second.stats.losses[RouterLoss::kBalance];
  mean.stats.losses[RouterLoss::kDevice] = .25 * first.stats.losses[RouterLoss::kDevice] +
                                           .75 * second.stats.losses[RouterLoss::kDevice];
  mean.stats.losses[RouterLoss::kCommunication] =
      .25 * first.stats.losses[RouterLoss::kCommunication] +
      .75 * second.stats.losses[RouterLoss::kCommunication];
  mean.gradient = .25 * first.gradient + .75 * second.gradient;
  LayerLosses ranks[2];
  parallel::ThreadGroup(2).run([&](parallel::Communicator& both) {
    at::set_num_threads(1);
    const bool leads = both.rank() == 0;
    ranks[both.rank()] =
        layer_losses(model(config::PER_RANK), both, leads ? 0 : 6, leads ? 6 : 18, 24);
  });
  for (const RouterLossKind& kind : router_loss_kinds())
    ranks[0].stats.losses[kind.loss] += ranks[1].stats.losses[kind.loss];
  ranks[0].gradient = ranks[0].gradient + ranks[1].gradient;
  expect_same(ranks[0], mean, 1e-12);
}

bool has_a_balance_loss(const RouterCase& with) {
  static const std::set<std::string> kNames = {"DeepSeekV2", "SampledSecond", "Pooled",
                                               "TwoLevel",   "ByImportance",  "BatchPrioritized"};
  return kNames.contains(with.name);
}

std::vector<RouterCase> balanced_cases() {
  std::vector<RouterCase> cases;
  std::ranges::copy_if(testing::kRouterCases, std::back_inserter(cases), has_a_balance_loss);
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Routers, PerRank, ::testing::ValuesIn(balanced_cases()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace switchyard::models
