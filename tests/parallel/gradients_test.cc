#include "parallel/gradients.h"
#include "core/tensor/aten.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/tensor/ops.h"
#include "parallel/thread.h"

namespace switchyard::parallel {
namespace {

constexpr int64_t kExperts = 4, kWidth = 3;
constexpr int kRanks = 4;

// Rank r's gradient of element i, of a dense parameter or of expert e: whole numbers, so that every
// order of summing gives the same.
double dense_element(int rank, int64_t i) { return rank + 2 * i + 1; }
double expert_element(int rank, int64_t e, int64_t i) { return 10 * e + 3 * rank - i; }

struct Model {
  explicit Model(const Mesh& mesh, at::ScalarType type)
      : dense(Scope(table).vector("dense", {kWidth}, Use::kShift, {})),
        experts(Scope(table, mesh.layout())
                    .of_experts(kExperts)
                    .vector("experts", {kWidth}, Use::kShift, {})) {
    table.allocate(type);
    const int rank = mesh.control().rank();
    for (int64_t i = 0; i < kWidth; ++i) {
      dense.grad[i] = dense_element(rank, i);
      const Slice held = *experts.experts();
      for (int64_t e = held.begin; e < held.end; ++e)
        experts.grad[e - held.begin][i] = expert_element(rank, e, i);
    }
    table.end_forward();
  }

  ParameterTable table;
  Parameter& dense;
  Parameter& experts;
};

// The sum over the ranks of the same place in their expert group.
double summed_expert(const Mesh& mesh, int64_t e, int64_t i) {
  double sum = 0;
  const int degree = mesh.expert().size();
  for (int rank = 0; rank < kRanks; ++rank) {
    if (rank % degree == e / (kExperts / degree)) sum += expert_element(rank, e, i);
  }
  return sum;
}

void expect_direct_sums(Communicator& world, int expert_degree, at::ScalarType type) {
  const Mesh mesh(world, MeshShape({.data = kRanks, .expert = expert_degree}));
  Model model(mesh, type);
  reduce_gradients(model.table.groups(), mesh);

  double squares = 0;
  for (int64_t i = 0; i < kWidth; ++i) {
    double sum = 0;
    for (int rank = 0; rank < kRanks; ++rank) sum += dense_element(rank, i);
    EXPECT_EQ(model.dense.grad[i].item<double>(), sum);
    squares += sum * sum;
    for (int64_t e = 0; e < kExperts; ++e) {
      const double expected = summed_expert(mesh, e, i);
      squares += expected * expected;
      const Slice held = *model.experts.experts();
      if (!held.contains(e)) continue;
      EXPECT_EQ(model.experts.grad[e - held.begin][i].item<double>(), expected);
    }
  }
  EXPECT_DOUBLE_EQ(gradient_norm(model.table.groups(), mesh), std::sqrt(squares));
}

struct Gradients : testing::TestWithParam<int> {};

TEST_P(Gradients, AreSummedOverReplicasAndEnterTheNormOnce) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    ThreadGroup(kRanks).run(
        [&](Communicator& world) { expect_direct_sums(world, GetParam(), type); });
  }
}

INSTANTIATE_TEST_SUITE_P(ExpertDegree, Gradients, testing::Values(1, 2, 4));

TEST(Gradients, AreNotReducedBeforeTheyAreComplete) {
  ThreadGroup(1).run([](Communicator& world) {
    const Mesh mesh(world, MeshShape());
    ParameterTable table;
    Parameter& weight = Scope(table).matrix("weight", {3, 7}, {});
    table.allocate(at::kFloat);
    table.zero_gradients();
    const at::Tensor y = use(weight, at::kFloat).sum();
    table.end_forward();
    EXPECT_THROW(reduce_gradients(table.trained_groups(), mesh), CheckError);
    y.backward();
    reduce_gradients(table.trained_groups(), mesh);
  });
}

TEST(GradientNorm, CountsEveryElementOfSeveralBlocks) {
  ThreadGroup(1).run([](Communicator& world) {
    const Mesh mesh(world, MeshShape());
    ParameterTable table;
    Parameter& large = Scope(table).matrix("large", {3, 70'001}, {});
    table.allocate(at::kFloat);
    large.grad.fill_(0.5);
    EXPECT_EQ(gradient_norm(table.groups(), mesh), std::sqrt(0.25 * 3 * 70'001));
  });
}

}  // namespace
}  // namespace switchyard::parallel
