#include "models/moe/rules/dead_experts.h"

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

constexpr int64_t kExperts = 4;

// Two MoE layers' tables, with experts spread over the mesh.
struct Layers {
  Layers(parallel::Communicator& world, int expert_ranks)
      : mesh(world, MeshShape({.data = world.size(), .expert = expert_ranks})) {
    moe.set_num_experts(kExperts);
    moe.set_dead_expert_action(config::REINITIALIZE);
    moe.set_dead_expert_noise(0.1);
    moe.mutable_router()->set_bias_update_rate(0.01);
    for (int layer = 0; layer < 2; ++layer) {
      const Scope scope = Scope(table, mesh.layout()) / "layers" / layer / "moe";
      const Scope router = (scope / "router").of_router(layer);
      router.matrix("weight", {kExperts, 3}, {Init::kNormal, 1});
      router.vector("selection_bias", {kExperts}, Use::kSelectionBias, {Init::kNormal, 1});
      (scope / "experts")
          .of_router(layer)
          .of_experts(kExperts)
          .matrix("w1", {20, 30}, {Init::kNormal, 1});
      (scope / "shared_expert").matrix("w1", {20, 30}, {Init::kNormal, 1});
    }
    table.allocate(at::kBFloat16);
    table.initialize(1);
  }
  at::Tensor master(const std::string& name) const {
    for (const Parameter& p : table.parameters()) {
      if (p.name == name) return p.master.clone();
    }
    return {};
  }
  std::vector<Revival> revive_third_of_second() {
    DeadExperts dead;
    dead.ids = {{}, {2}};
    dead.load = {{1, 2, 3, 4}, {7, 9, 0, 8}};
    dead.step = 5;
    return revive(table, moe, dead, mesh);
  }

  parallel::Mesh mesh;
  config::Moe moe;
  ParameterTable table;
};

TEST(DeadExperts, BecomeNoisyCopiesOfTheBusiest) {
  const auto world = parallel::make_single();
  Layers before(*world, 1), after(*world, 1);
  const auto revivals = after.revive_third_of_second();
  ASSERT_EQ(revivals.size(), 1u);
  EXPECT_EQ(revivals[0].moe_layer, 1);
  EXPECT_EQ(revivals[0].expert, 2);
  EXPECT_EQ(revivals[0].busiest, 1);
  for (const Parameter& parameter : after.table.parameters()) {
    const at::Tensor old = before.master(parameter.name), now = parameter.master;
    const bool has_rows = parameter.name == "layers.1.moe.router.weight" ||
                          parameter.name == "layers.1.moe.experts.w1";
    if (!has_rows) {
      EXPECT_TRUE(at::equal(now, old)) << parameter.name;
      continue;
    }
    EXPECT_TRUE(at::equal(now.narrow(0, 0, 2), old.narrow(0, 0, 2)));
    EXPECT_TRUE(at::equal(now[3], old[3]));
    EXPECT_FALSE(at::equal(now[2], old[1]));
    EXPECT_TRUE(at::equal(parameter.value, now.to(at::kBFloat16)));
  }
  const at::Tensor noise =
      after.master("layers.1.moe.experts.w1")[2] - before.master("layers.1.moe.experts.w1")[1];
  EXPECT_NEAR(noise.mean().item<double>(), 0, 0.02);
  EXPECT_NEAR(noise.std().item<double>(), 0.1, 0.02);
}

TEST(DeadExperts, AreTheSameWhereverExpertsLive) {
  const auto single = parallel::make_single();
  Layers alone(*single, 1);
  alone.revive_third_of_second();
  parallel::ThreadGroup(4).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    Layers spread(world, 2);  // the busiest on the first rank, the dead on the second
    spread.revive_third_of_second();
    for (const Parameter& parameter : spread.table.parameters()) {
      at::Tensor expected = alone.master(parameter.name);
      if (parameter.experts()) {
        expected = expected.narrow(0, parameter.experts()->begin, kExperts / 2);
      }
      EXPECT_TRUE(at::equal(parameter.master, expected)) << parameter.name;
    }
  });
}

TEST(DeadExperts, MayHaveTheirBiasRaised) {
  const auto world = parallel::make_single();
  Layers layers(*world, 1);
  layers.moe.set_dead_expert_action(config::RAISE_BIAS);
  const at::Tensor before = layers.master("layers.1.moe.router.selection_bias");
  layers.revive_third_of_second();
  at::Tensor expected = before.clone();
  expected[2] = before.max() + 0.01;
  EXPECT_TRUE(is_near(layers.master("layers.1.moe.router.selection_bias"), expected, 1e-6));
}

}  // namespace
}  // namespace switchyard::models
