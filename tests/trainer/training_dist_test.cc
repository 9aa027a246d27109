// Layout invariance with real processes: this job's ranks against one rank alone, computed by every
// rank for itself.

#include <gtest/gtest.h>

#include "tests/models/router_cases.h"
#include "tests/testing/dist.h"
#include "tests/testing/train_tiny.h"

namespace switchyard::testing {
namespace {

config::Mesh with_experts_over(int ranks) {
  config::Mesh mesh;
  mesh.set_expert(ranks);
  return mesh;
}

void expect_layout_changes_nothing(config::RunConfig config, const config::Mesh& mesh, int steps,
                                   double tolerance) {
  config::RunConfig on_one_rank = config;
  on_one_rank.mutable_mesh()->Clear();
  const TrainingTrace expected = train_alone(on_one_rank, steps);
  *config.mutable_mesh() = mesh;
  const TrainingTrace actual = train_tiny(config, world(), steps);
  for (int i = 0; i < steps; ++i) {
    EXPECT_NEAR(actual.losses[i], expected.losses[i], tolerance * expected.losses[i])
        << "step " << i;
    EXPECT_NEAR(actual.gradient_norms[i], expected.gradient_norms[i],
                tolerance * expected.gradient_norms[i]);
  }
  expect_same_parameters(actual, expected, tolerance);
}

TEST(LayoutInvarianceMpi, ExpertParallelInFloat64) {
  expect_layout_changes_nothing(tiny_config(), with_experts_over(world().size()), 20, 1e-10);
}

TEST(LayoutInvarianceMpi, DataParallelInFloat64) {
  expect_layout_changes_nothing(tiny_config(), with_experts_over(1), 20, 1e-10);
}

TEST(LayoutInvarianceMpi, TensorAndExpertTensorParallelInFloat64) {
  auto config = tiny_config();
  config.mutable_model()->mutable_attention()->set_num_kv_heads(4);
  config::Mesh mesh;
  mesh.set_tensor(world().size());
  mesh.set_expert_tensor(world().size());
  expect_layout_changes_nothing(config, mesh, 4, 1e-10);
}

TEST(LayoutInvarianceMpi, ExpertAndDataParallelWithDropsInFloat64) {
  auto config = tiny_config();
  auto& capacity = *config.mutable_model()->mutable_moe()->mutable_capacity();
  capacity.set_policy(config::BY_POSITION);
  capacity.set_train_factor(1.0);
  capacity.set_counts_k(true);
  expect_layout_changes_nothing(
      config, with_experts_over(world().size() > 1 ? world().size() / 2 : 1), 20, 1e-10);
}

TEST(LayoutInvarianceMpi, ExpertParallelInFloat32) {
  auto config = tiny_config();
  config.mutable_runtime()->set_compute(config::FP32);
  expect_layout_changes_nothing(config, with_experts_over(world().size()), 1, 1e-5);
}

TEST(LayoutInvarianceMpi, PipelineInFloat64) {
  auto config = tiny_config();  // whose tied table both ends hold
  config.mutable_model()->set_num_layers(4);
  config.mutable_train()->set_accumulation(4);
  config::Mesh mesh;
  mesh.set_pipeline(world().size());
  expect_layout_changes_nothing(config, mesh, 4, 1e-10);
}

TEST(LayoutInvarianceMpi, ShardedOptimizerChangesNoBit) {
  auto config = tiny_config();
  config.mutable_runtime()->set_compute(config::BF16);
  config.mutable_mesh()->set_expert(world().size() > 1 ? world().size() / 2 : 1);
  const TrainingTrace plain = train_tiny(config, world(), 4);
  config.mutable_optimizer()->set_sharded(true);
  expect_same_training(train_tiny(config, world(), 4), plain, 0);
}

TEST(LayoutInvarianceMpi, EveryRouterInFloat64) {
  for (const RouterCase& router : kRouterCases) {
    SCOPED_TRACE(router.name);
    expect_layout_changes_nothing(config_of(router), with_experts_over(world().size()), 4, 1e-10);
  }
}

}  // namespace
}  // namespace switchyard::testing
