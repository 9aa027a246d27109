#include "core/config/mesh_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"

namespace switchyard::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

// 0: a dense model.
Model with_experts(int num_experts) {
  Model model;
  if (num_experts > 0) model.mutable_moe()->set_num_experts(num_experts);
  return model;
}

Mesh expert(int degree) {
  Mesh mesh;
  mesh.set_expert(degree);
  return mesh;
}

Mesh data(int degree) {
  Mesh mesh;
  mesh.set_data(degree);
  return mesh;
}

std::vector<int> sizes(const Mesh& asked, int num_experts, int ranks) {
  const MeshShape shape = mesh_shape(asked, with_experts(num_experts), ranks);
  EXPECT_EQ(shape.ranks(), ranks);
  return {shape.size(Axis::kData), shape.size(Axis::kExpert), shape.size(Axis::kExpertData)};
}

TEST(MeshShape, HasTheLargestExpertDegreeThatDividesRanksAndExperts) {
  EXPECT_THAT(sizes({}, 8, 1), ElementsAre(1, 1, 1));
  EXPECT_THAT(sizes({}, 8, 4), ElementsAre(4, 4, 1));
  EXPECT_THAT(sizes({}, 4, 8), ElementsAre(8, 4, 2));
  EXPECT_THAT(sizes({}, 6, 8), ElementsAre(8, 2, 4));
  EXPECT_THAT(sizes({}, 7, 8), ElementsAre(8, 1, 8));
  EXPECT_THAT(sizes({}, 0, 4), ElementsAre(4, 1, 4));
}

TEST(MeshShape, HasTheDegreesAskedFor) {
  Mesh both = expert(2);
  both.set_data(8);
  EXPECT_THAT(sizes(both, 8, 8), ElementsAre(8, 2, 4));
  EXPECT_THAT(sizes(expert(1), 8, 4), ElementsAre(4, 1, 4));
}

TEST(MeshShape, IsRefusedWithAllReasonsAtOnce) {
  Mesh both = expert(3);
  both.set_data(2);
  EXPECT_THAT(
      [&] { mesh_shape(both, with_experts(8), 4); },
      ThrowsMessage<ConfigError>(AllOf(
          HasSubstr("mesh.data (2) must be 4, the number of ranks (4) divided by mesh.tensor (1)"),
          HasSubstr("mesh.expert (3) must divide model.moe.num_experts (8)"),
          HasSubstr("mesh.expert (3) must divide the number of ranks (4)"))));
}

TEST(MeshShape, IsRefusedForEachReason) {
  const auto problems = [](const Mesh& asked, int num_experts, int ranks) {
    return mesh_problems(asked, with_experts(num_experts), ranks);
  };
  EXPECT_THAT(problems(expert(4), 6, 4),
              ElementsAre(HasSubstr("divide model.moe.num_experts (6)")));
  EXPECT_THAT(problems(expert(2), 0, 4), ElementsAre(HasSubstr("the model has no experts")));
  for (const int degree : {0, -1}) {
    EXPECT_THAT(problems(expert(degree), 8, 4), ElementsAre(HasSubstr("must be at least 1")));
    EXPECT_THAT(problems(data(degree), 8, 4), ElementsAre(HasSubstr("must be at least 1")));
  }
}

TEST(MeshShape, IsCheckedAsFarAsItIsKnownWithoutRanks) {
  Mesh both = expert(4);
  both.set_data(6);
  EXPECT_THAT(mesh_problems(both, with_experts(8), 0),
              ElementsAre(HasSubstr("mesh.expert (4) must divide mesh.data (6)")));
  EXPECT_THAT(mesh_problems(expert(4), with_experts(8), 0), ElementsAre());
}

TEST(MeshShape, SharesTheRanksOutOverTensorAndData) {
  Mesh asked;
  asked.set_tensor(2);
  const auto shape = [&](int num_experts, int ranks) {
    const MeshShape mesh = mesh_shape(asked, with_experts(num_experts), ranks);
    return std::vector{mesh.size(Axis::kData), mesh.size(Axis::kTensor), mesh.size(Axis::kExpert),
                       mesh.size(Axis::kExpertData)};
  };
  EXPECT_THAT(shape(8, 8), ElementsAre(4, 2, 8, 1));
  EXPECT_THAT(shape(2, 8), ElementsAre(4, 2, 2, 4));
  EXPECT_THAT(mesh_problems(asked, with_experts(8), 3),
              ElementsAre(HasSubstr("mesh.tensor (2) must divide the number of ranks (3)")));
  asked.set_data(4);
  EXPECT_THAT(mesh_problems(asked, with_experts(8), 4),
              ElementsAre(HasSubstr(
                  "mesh.data (4) must be 2, the number of ranks (4) divided by mesh.tensor (2)")));
  asked.set_tensor(0);
  EXPECT_THAT(mesh_problems(asked, with_experts(8), 4),
              ElementsAre(HasSubstr("mesh.tensor (0) must be at least 1")));
}

Mesh expert_tensor(int degree) {
  Mesh mesh;
  mesh.set_expert_tensor(degree);
  return mesh;
}

Model with_expert_width(int d_ff) {
  Model model = with_experts(8);
  model.mutable_moe()->set_d_ff(d_ff);
  return model;
}

TEST(MeshShape, SharesTheRanksOutOverExpertsAndTheirParts) {
  const MeshShape shape = mesh_shape(expert_tensor(2), with_expert_width(24), 8);
  EXPECT_EQ(shape.size(Axis::kExpert), 4);
  EXPECT_EQ(shape.size(Axis::kExpertTensor), 2);
  EXPECT_EQ(shape.size(Axis::kExpertData), 1);
}

TEST(MeshShape, RefusesToCutExpertsWhereThatCannotBe) {
  const auto problems = [](int degree, const Model& model, int ranks) {
    return mesh_problems(expert_tensor(degree), model, ranks);
  };
  EXPECT_THAT(problems(2, with_experts(0), 4),
              ElementsAre(HasSubstr("expert_tensor (2) must be 1 or unset, as the model has no")));
  EXPECT_THAT(problems(4, with_expert_width(6), 4),
              ElementsAre(HasSubstr("mesh.expert_tensor (4) must divide model.moe.d_ff (6)")));
  EXPECT_THAT(problems(4, with_expert_width(8), 6),
              ElementsAre(HasSubstr("mesh.expert_tensor (4) must divide the number of ranks (6)")));
  EXPECT_THAT(problems(0, with_expert_width(8), 4), ElementsAre(HasSubstr("at least 1")));
  Model other = with_expert_width(8);
  other.set_d_model(6);
  EXPECT_THAT(problems(4, other, 4), ElementsAre());
  other.mutable_attention()->set_switch_projections(true);
  EXPECT_THAT(problems(4, other, 4), ElementsAre(HasSubstr("must divide model.d_model")));
  other.set_architecture(LSTM_LM);
  EXPECT_THAT(problems(4, other, 4), ElementsAre(HasSubstr("model.architecture LSTM_LM")));
}

TEST(MeshShape, HasNoContextAxis) {
  Mesh asked;
  asked.set_context(2);
  EXPECT_THAT(mesh_problems(asked, with_experts(8), 4),
              ElementsAre(HasSubstr("mesh.context (2) must be 1 or unset")));
  asked.set_context(1);
  EXPECT_THAT(mesh_problems(asked, with_experts(8), 4), ElementsAre());
}

TEST(MeshShape, SharesTheRanksOutOverStages) {
  Mesh asked;
  asked.set_pipeline(2);
  Model model = with_experts(8);
  model.set_architecture(DECODER);
  model.set_num_layers(2);
  const MeshShape shape = mesh_shape(asked, model, 8);
  EXPECT_THAT((std::vector{shape.size(Axis::kData), shape.size(Axis::kPipeline),
                           shape.size(Axis::kExpert)}),
              ElementsAre(4, 2, 4));
  asked.set_pipeline(4);
  model.set_architecture(LSTM_LM);
  model.mutable_moe()->set_layer_aggregation(POOLED_LAYERS);
  EXPECT_THAT(mesh_problems(asked, model, 8),
              ElementsAre(HasSubstr("mesh.pipeline (4) must be 1 or unset with model.architecture "
                                    "LSTM_LM"),
                          HasSubstr("POOLED_LAYERS"),
                          HasSubstr("mesh.pipeline (4) must be at most model.num_layers (2)")));
}

// Eight ranks, two to a tensor group and four to an expert group, which cover each other's.
TEST(MeshShape, FoldsTwoViewsOverTheSameRanks) {
  const MeshShape shape({.data = 4, .tensor = 2, .expert = 4});
  for (int rank = 0; rank < 8; ++rank) {
    const Layout layout = shape.layout(rank);
    EXPECT_EQ(layout[Axis::kTensor].index, rank % 2);
    EXPECT_EQ(layout[Axis::kData].index, rank / 2);
    EXPECT_EQ(layout[Axis::kExpert].index, rank % 4);
    EXPECT_EQ(layout[Axis::kExpertData].index, rank / 4);
    EXPECT_EQ(shape.group_along(Axis::kTensor, rank), rank / 2);
    EXPECT_EQ(shape.group_along(Axis::kData, rank), rank % 2);
  }
}

// Eight ranks, experts over two: 0 1 | 2 3 | 4 5 | 6 7 hold all experts together.
TEST(MeshShape, PlacesEveryRankOnEveryAxis) {
  const MeshShape shape({.data = 8, .expert = 2});
  for (int rank = 0; rank < 8; ++rank) {
    const Layout layout = shape.layout(rank);
    EXPECT_EQ(layout[Axis::kData].index, rank);
    EXPECT_EQ(layout[Axis::kExpert].index, rank % 2);
    EXPECT_EQ(layout[Axis::kExpertData].index, rank / 2);
    EXPECT_EQ(layout[Axis::kExpertData].size, 4);
    EXPECT_EQ(shape.group_along(Axis::kData, rank), 0);
    EXPECT_EQ(shape.group_along(Axis::kExpert, rank), rank / 2);
    EXPECT_EQ(shape.group_along(Axis::kExpertData, rank), rank % 2);
  }
}

}  // namespace
}  // namespace switchyard::config
