#include "models/initializers.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "models/layers/attention.h"
#include "models/moe/router/router.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

struct Table {
  explicit Table(config::Model model) {
    model.set_init_std(0.02);
    const Scope root(table);
    const Scope embeddings = root.as(Role::kEmbedding);
    embedding = &embeddings.table("embedding", {300, 40}, {Init::kNormal, 0.02});
    positions = &embeddings.table("position_embedding", {300, 40}, {Init::kNormal, 0.02});
    matrix = &(root / "layers" / 0).matrix("w2", {300, 50}, {Init::kNormal, 0.02});
    experts = &root.of_experts(4).matrix("experts", {100, 200}, {Init::kNormal, 0.02});
    query = &root.matrix("query", {300, 50}, {Init::kNormal, 0.01});
    bias = &(root / "encoder").table("relative_bias", {32, 8}, {Init::kNormal, 0.02});
    norm = &root.vector("norm", {7}, Use::kScale, {Init::kConstant, 1});
    choose_initializers(model, table);
    table.allocate(at::kDouble);
    table.initialize(5);
  }

  ParameterTable table;
  Parameter *embedding, *positions, *matrix, *experts, *query, *bias, *norm;
};

double deviation(const Parameter& parameter) { return parameter.master.std().item<double>(); }
double largest(const Parameter& parameter) { return parameter.master.abs().max().item<double>(); }

TEST(Initializers, LeaveTheFixedStandardDeviationWhereNoOtherIsAsked) {
  config::Model model;
  model.set_initializer(config::NORMAL);
  const Table table(model);
  EXPECT_NEAR(deviation(*table.matrix), 0.02, 0.001);
  EXPECT_GT(largest(*table.matrix), 0.05);
}

TEST(Initializers, CutSwitchsNormalAtTwoDeviationsOfTheFanIn) {
  config::Model model;
  model.set_initializer(config::TRUNCATED_NORMAL);
  model.set_init_scale(0.1);
  const Table table(model);
  const double sigma = std::sqrt(0.1 / 50), sigma_expert = std::sqrt(0.1 / 200);
  EXPECT_NEAR(deviation(*table.matrix), 0.8796 * sigma, 0.02 * sigma);
  EXPECT_LE(largest(*table.matrix), 2 * sigma);
  EXPECT_GT(largest(*table.matrix), 1.99 * sigma);
  EXPECT_NEAR(deviation(*table.experts), 0.8796 * sigma_expert, 0.02 * sigma_expert);
  EXPECT_NEAR(deviation(*table.query), deviation(*table.matrix) / 2, 0.02 * sigma);
  EXPECT_NEAR(deviation(*table.embedding), 1, 0.02);
  EXPECT_NEAR(deviation(*table.positions), 1, 0.02);
  EXPECT_TRUE(at::equal(table.norm->master, at::ones({7}, at::kDouble)));
}

TEST(Initializers, LeaveARouterItsOwnRule) {
  const auto weights = [](config::RouterInitializer rule) {
    config::Model model = switchyard::testing::tiny_config().model();
    model.set_initializer(config::TRUNCATED_NORMAL);
    model.set_init_scale(1);
    model.set_init_std(0.02);
    config::Moe& moe = *model.mutable_moe();
    moe.set_num_experts(64);
    moe.mutable_router()->set_init_std(0.02);
    moe.mutable_router()->set_initializer(rule);
    ParameterTable table;
    const Router router(Scope(table) / "router", moe, 100, 0);
    choose_initializers(model, table);
    table.allocate(at::kDouble);
    table.initialize(5);
    return table.parameters().front().master;
  };
  EXPECT_NEAR(weights(config::OWN_NORMAL).std().item<double>(), 0.02, 0.0005);
  EXPECT_GT(weights(config::OWN_NORMAL).abs().max().item<double>(), 0.06);  // not cut
  EXPECT_NEAR(weights(config::KAIMING_UNIFORM).abs().max().item<double>(), 0.1, 0.0005);
  EXPECT_NEAR(weights(config::KAIMING_UNIFORM).std().item<double>(), 0.1 / std::sqrt(3), 0.001);
  EXPECT_GT(weights(config::AS_MODEL).std().item<double>(), 0.05);
}

// Scores that are not scaled by the width of a head keep their size through narrower queries.
TEST(Initializers, NarrowTheQueriesOfARelativeBiasWhateverTheRule) {
  for (const config::Initializer rule : {config::NORMAL, config::TRUNCATED_NORMAL}) {
    config::Model model = switchyard::testing::tiny_config().model();
    model.set_initializer(rule);
    model.set_init_scale(1);
    config::Attention& attention = *model.mutable_attention();
    attention.set_num_kv_heads(4);
    attention.set_head_dim(16);
    attention.set_position(config::RELATIVE_BIAS);
    attention.mutable_relative_bias()->set_num_buckets(32);
    ParameterTable table;
    const Attention layer(Scope(table) / "attention", model, nullptr);
    choose_initializers(model, table);
    table.allocate(at::kDouble);
    table.initialize(5);
    const at::Tensor qkv = table.parameters().front().master;  // registered first
    const double query = qkv.narrow(0, 0, 64).std().item<double>();
    EXPECT_NEAR(query / qkv.narrow(0, 64, 128).std().item<double>(), 1. / 4, 0.01);
  }
}

TEST(Initializers, DrawT5sPositionBiasUniformlyByItsBucketsAndHeads) {
  config::Model model;
  model.set_initializer(config::TRUNCATED_NORMAL);
  model.set_init_scale(0.1);
  const Table table(model);
  const double range = std::sqrt(6.0 / (32 + 8));
  EXPECT_LE(largest(*table.bias), range);
  EXPECT_GT(largest(*table.bias), 0.95 * range);
  EXPECT_NEAR(deviation(*table.bias), std::sqrt(2.0 / (32 + 8)), 0.1 * range);
}

TEST(Initializers, RestoreTheVarianceOfTheCutNormalWhereAsked) {
  config::Model model;
  model.set_initializer(config::TRUNCATED_NORMAL);
  model.set_init_scale(0.1);
  model.set_init_restore_variance(true);
  const Table table(model);
  const double sigma = std::sqrt(0.1 / 50);
  EXPECT_NEAR(deviation(*table.matrix), sigma, 0.02 * sigma);
}

TEST(Initializers, CutANormalOfFixedDeviationWhereAsked) {
  config::Model model;
  model.set_initializer(config::NORMAL);
  model.set_init_cut(1);
  const Table table(model);
  EXPECT_LE(largest(*table.matrix), 0.02);
  EXPECT_GT(largest(*table.matrix), 0.0199);
  EXPECT_NEAR(deviation(*table.matrix), 0.02 * 0.5396, 0.0002);  // of a normal cut at +-1
}

TEST(Initializers, DrawUniformlyWithinTheRange) {
  config::Model model;
  model.set_initializer(config::UNIFORM);
  model.set_init_range(0.5);
  const Table table(model);
  EXPECT_LE(largest(*table.matrix), 0.5);
  EXPECT_NEAR(deviation(*table.matrix), 0.5 / std::sqrt(3.0), 0.01);
  EXPECT_NEAR(table.matrix->master.mean().item<double>(), 0, 0.01);
}

}  // namespace
}  // namespace switchyard::models
