#include "models/moe/rules/selection_bias.h"

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

struct Biases {
  Biases() {
    moe.set_num_experts(4);
    moe.mutable_router()->set_selection_bias(true);
    moe.mutable_router()->set_bias_update_rate(0.1);
    for (int layer = 0; layer < 2; ++layer) {
      (Scope(table) / layer / "router")
          .of_router(layer)
          .vector("selection_bias", {4}, Use::kSelectionBias, {Init::kConstant, 0});
    }
    table.allocate(at::kBFloat16);  // the bias itself stays float32
    table.initialize(1);
  }
  at::Tensor bias(size_t layer) const { return table.parameters()[layer].master; }

  config::Moe moe;
  ParameterTable table;
};

std::vector<RoutingStats> loads(const std::vector<std::vector<int64_t>>& layers) {
  std::vector<RoutingStats> stats(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) stats[i].load = layers[i];
  return stats;
}

TEST(SelectionBias, RisesWhereTheLoadIsBelowTheMean) {
  Biases biases;
  const auto world = parallel::make_single();
  update_selection_bias(biases.table, biases.moe, loads({{0, 5, 3, 4}, {2, 2, 2, 2}}), *world);
  EXPECT_TRUE(is_near(biases.bias(0), at::tensor({.1f, -.1f, 0.f, -.1f}), 1e-6));
  EXPECT_EQ(biases.bias(1).abs().max().item<float>(), 0);
}

TEST(SelectionBias, FollowsTheCountsOfAllRanks) {
  parallel::ThreadGroup(2).run([](parallel::Communicator& world) {
    at::set_num_threads(1);
    Biases biases;
    // Each rank alone would move expert 0 and 1 the other way.
    const auto mine = world.rank() == 0 ? loads({{0, 3, 1, 0}, {}}) : loads({{9, 1, 1, 1}, {}});
    update_selection_bias(biases.table, biases.moe, mine, world);
    EXPECT_TRUE(is_near(biases.bias(0), at::tensor({-.1f, 0.f, .1f, .1f}), 1e-6));
  });
}

TEST(SelectionBias, IsLeftAloneWhereTheConfigHasNone) {
  Biases biases;
  biases.moe.mutable_router()->set_selection_bias(false);
  const auto world = parallel::make_single();
  update_selection_bias(biases.table, biases.moe, loads({{0, 5, 3, 4}, {2, 2, 2, 2}}), *world);
  EXPECT_EQ(biases.bias(0).abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace switchyard::models
