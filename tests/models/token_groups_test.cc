// Routing groups by the rules of Mesh-TensorFlow and flaxformer.

#include "models/moe/rules/token_groups.h"

#include <gtest/gtest.h>

#include "core/config/mesh_shape.h"
#include "core/tensor/aten.h"
#include "models/moe/moe_layer.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

// The first number that has all properties, looked for from 1.
int64_t first_fitting(int64_t tokens, int64_t most, int64_t multiple) {
  for (int64_t groups = 1;; ++groups) {
    if (groups % multiple == 0 && tokens % groups == 0 && groups >= tokens / most) return groups;
  }
}

TEST(TokenGroups, AreTheFewestThatFit) {
  for (const int64_t multiple : {1, 2, 3, 8})
    for (int64_t tokens = multiple; tokens <= 240; tokens += multiple)
      for (const int64_t most : {1, 4, 7, 32, 500})
        ASSERT_EQ(num_routing_groups(tokens, most, multiple), first_fitting(tokens, most, multiple))
            << tokens << " tokens, at most " << most << ", multiple of " << multiple;
}

TEST(TokenGroups, AreThoseOfThePublishedRuns) {
  constexpr int64_t kBatch = 1 << 20;
  EXPECT_EQ(num_routing_groups(kBatch, 8192, 128), 128);  // Switch-Base
  EXPECT_EQ(num_routing_groups(kBatch, 2048, 512), 512);  // Switch-C
}

config::Model model_with(config::GroupRule rule, int max_group_tokens) {
  config::Model model = switchyard::testing::tiny_config().model();
  config::Capacity& capacity = *model.mutable_moe()->mutable_capacity();
  capacity.set_policy(config::BY_POSITION);
  capacity.set_train_factor(0.5);
  capacity.set_minimum(1);
  capacity.set_max_group_tokens(max_group_tokens);
  capacity.set_group_rule(rule);
  return model;
}

struct Layer {
  Layer(const config::Model& model, parallel::Communicator& world)
      : mesh(world, config::mesh_shape({}, model, world.size())),
        layer(Scope(table, mesh.layout()) / "moe", model, mesh, 0, 0) {
    table.allocate(at::kDouble);
    table.initialize(7);
  }
  at::Tensor operator()(const at::Tensor& x_TD, StepContext context) {
    RoutingDecision decision;
    context.count.in_step = context.count.in_micro_batch = x_TD.size(0);
    const at::Tensor y_TD = layer.forward(x_TD, context, decision);
    y_TD.sum().backward();
    return y_TD.detach();
  }
  parallel::Mesh mesh;
  ParameterTable table;
  MoeLayer layer;
};

StepContext in_groups_of(int64_t tokens) {
  StepContext context;
  context.training = true;
  context.group_tokens = tokens;
  return context;
}

at::Tensor rows(int64_t tokens) {
  at::manual_seed(4);
  return at::randn({tokens, 16}, at::kDouble).requires_grad_();
}

TEST(TokenGroups, AreThoseThatALayerRoutes) {
  const auto world = parallel::make_single();
  Layer by_rule(model_with(config::MESH_TENSORFLOW, 8), *world);
  Layer by_hand(model_with(config::MESH_TENSORFLOW, 0), *world);
  // 28 / 8: at least 3, but 4 divides.
  EXPECT_TRUE(is_near(by_rule(rows(28), in_groups_of(28)), by_hand(rows(28), in_groups_of(7))));
  EXPECT_FALSE(is_near(by_rule(rows(28), in_groups_of(28)), by_hand(rows(28), in_groups_of(14))));
}

// As many groups as experts: 4 of 3 tokens each, of which the last two are padding.
TEST(TokenGroups, ArePaddedByTheRuleOfFlaxformer) {
  const auto world = parallel::make_single();
  const config::Model model = model_with(config::FLAXFORMER, 100);
  ASSERT_EQ(model.moe().num_experts(), 4);
  Layer by_rule(model, *world), by_hand(model_with(config::FLAXFORMER, 0), *world);
  const at::Tensor x_TD = rows(10), padded_TD = at::concat({x_TD, at::zeros({2, 16}, at::kDouble)});
  StepContext context = in_groups_of(3);
  context.is_real_T = first_are_real(10, 12);
  std::vector<RoutingSums> sums(1);
  StepContext counted = in_groups_of(10);
  counted.routing.sums = &sums;
  EXPECT_TRUE(is_near(by_rule(x_TD, counted), by_hand(padded_TD, context).narrow(0, 0, 10)));
  EXPECT_EQ(numbers_of(sums)[0].tokens, 10);
}

TEST(TokenGroups, MayBeNone) {
  const auto world = parallel::make_single();
  Layer layer(model_with(config::FLAXFORMER, 8), *world);
  EXPECT_EQ(layer(rows(0), in_groups_of(1)).size(0), 0);
}

TEST(TokenGroups, AreTheSameOnEveryNumberOfRanksThatDividesThem) {
  const auto world = parallel::make_single();
  Layer alone(model_with(config::MESH_TENSORFLOW, 8), *world);
  const at::Tensor x_TD = rows(32), expected = alone(x_TD, in_groups_of(32));
  for (const int ranks : {2, 4}) {
    parallel::ThreadGroup(ranks).run([&](parallel::Communicator& group) {
      Layer layer(model_with(config::MESH_TENSORFLOW, 8), group);
      const int64_t each = 32 / ranks, first = group.rank() * each;
      StepContext context = in_groups_of(each);
      context.tokens = TokenMap(first);
      EXPECT_TRUE(is_near(layer(x_TD.detach().narrow(0, first, each).requires_grad_(), context),
                          expected.narrow(0, first, each)));
    });
  }
}

}  // namespace
}  // namespace switchyard::models
