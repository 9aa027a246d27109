#include <map>
#include <string>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "optim/optimizer.h"
#include "parallel/mesh.h"
#include "parallel/single.h"

namespace switchyard::optim {
namespace {

constexpr double kRate = 0.5, kDecay = 0.25;

// What one update without gradients makes of parameters that are 1.
std::map<std::string, double> decayed(config::Optimizer options) {
  ParameterTable table;
  const Scope scope(table);
  const Init one{Init::kConstant, 1};
  scope.matrix("matrix", {2, 3}, one);
  scope.as(Role::kEmbedding).table("embedding", {5, 3}, one);
  scope.as(Role::kNorm).vector("norm", {3}, Use::kScale, one);
  scope.as(Role::kNorm).vector("norm_bias", {3}, Use::kShift, one);
  choose_weight_decay(options, table);
  table.allocate(at::kDouble);
  table.initialize(1);
  options.set_kind(config::SGD);
  options.set_weight_decay(1);  // another before
  const auto world = parallel::make_single();
  const parallel::Mesh mesh(*world, MeshShape());
  const auto optimizer = make_optimizer(options, table.groups(), mesh);
  optimizer->set_weight_decay(kDecay);
  optimizer->step(kRate, 0);
  std::map<std::string, double> values;
  for (const Parameter& parameter : table.parameters()) {
    values[parameter.name] = parameter.master.view(-1)[0].item<double>();
  }
  return values;
}

constexpr double kShrunk = 1 - kRate * kDecay;

TEST(WeightDecay, IsOfMatricesAndEmbeddingsUnlessToldOtherwise) {
  const auto values = decayed({});
  EXPECT_EQ(values.at("matrix"), kShrunk);
  EXPECT_EQ(values.at("embedding"), kShrunk);
  EXPECT_EQ(values.at("norm"), 1);
  EXPECT_EQ(values.at("norm_bias"), 1);
}

TEST(WeightDecay, IsOfNormsWhereAskedButNeverOfBiases) {
  config::Optimizer options;
  options.set_decay_norms(true);
  const auto values = decayed(options);
  EXPECT_EQ(values.at("norm"), kShrunk);
  EXPECT_EQ(values.at("norm_bias"), 1);
  EXPECT_EQ(values.at("matrix"), kShrunk);
}

TEST(WeightDecay, LeavesEmbeddingsOutWhereAsked) {
  config::Optimizer options;
  options.set_decay_embeddings(false);
  const auto values = decayed(options);
  EXPECT_EQ(values.at("embedding"), 1);
  EXPECT_EQ(values.at("matrix"), kShrunk);
}

}  // namespace
}  // namespace switchyard::optim
