#include "parallel/gradients.h"
#include "core/tensor/aten.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/tensor/differentiable.h"
#include "core/tensor/ops.h"
#include "parallel/activity.h"
#include "parallel/host_reductions.h"
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
  GradientReduction(model.table, mesh).finish();

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
    GradientReduction reduction(table, mesh);
    table.zero_gradients();
    const at::Tensor y = use(weight, at::kFloat).sum();
    table.end_forward();
    EXPECT_THROW(reduction.finish(), CheckError);
    y.backward();
    reduction.finish();
  });
}

// Rank 0 of two, whose peer sends nothing but zeros. Writes down what begins to move.
class WithSilentPeer final : public HostReductions {
 public:
  explicit WithSilentPeer(std::vector<std::string>& log)
      : HostReductions(/*is_checked=*/false), log_(log) {}
  int rank() const override { return 0; }
  int size() const override { return 2; }
  const std::string& name() const override { return name_; }
  std::unique_ptr<Communicator> split(int, const std::string&) override {
    return std::make_unique<WithSilentPeer>(log_);
  }
  Activity& activity() override { return activity_; }
  [[noreturn]] void abort(int, const std::string&) override { std::abort(); }

 private:
  std::unique_ptr<Work> move(const Movement& movement) override {
    log_.emplace_back(movement.operation.what);
    std::memset(movement.receive, 0, movement.operation.bytes_in);
    return completed_work();
  }

  std::vector<std::string>& log_;
  std::string name_ = "two";
  PublishedWhereabouts whereabouts_{};
  Activity activity_{whereabouts_};
};

TEST(Gradients, AreReducedWhileBackwardComputesTheNext) {
  std::vector<std::string> log;
  WithSilentPeer world(log);
  const Mesh mesh(world, MeshShape({.data = 2}));
  ParameterTable table;
  Parameter& first = Scope(table).matrix("first", {1024, 1024}, {});
  Parameter& second = Scope(table).matrix("second", {1024, 1024}, {});
  table.allocate(at::kFloat);
  GradientReduction reduction(table, mesh);
  table.zero_gradients();
  const at::Tensor h = linear(at::ones({1, 1024}), first);
  const at::Tensor marked =
      differentiable("mark", {h}, h.detach(), [&](const at::Tensor& dy, const std::vector<bool>&) {
        log.emplace_back("mark");
        return std::vector{dy};
      });
  const at::Tensor y = linear(marked, second).sum();
  table.end_forward();
  y.backward();
  EXPECT_THAT(log, testing::ElementsAre("gradients", "mark"));
  reduction.finish();
  EXPECT_GT(log.size(), 2u);
}

// Scattered buckets, a rest that is not, and a parameter over the end of a block.
struct LargeModel {
  LargeModel(const Mesh& mesh, Dealing dealing) {
    const Scope root(table, mesh.layout());
    for (const auto& [name, rows] :
         {std::pair{"a", 70001}, std::pair{"b", 3}, std::pair{"c", 250000}}) {
      Parameter& parameter = root.matrix(name, {rows, 5}, {});
      parameter.dealing = dealing;
    }
    table.allocate(at::kFloat);
    const float rank = mesh.control().rank();
    for (Parameter& parameter : table.parameters()) {
      const int64_t count = parameter.local_count();
      parameter.grad.view(-1).copy_(
          at::sin(at::arange(count, at::kFloat) * (0.37f + rank) + parameter.name[0]));
    }
    table.end_forward();
  }

  ParameterTable table;
};

TEST(Gradients, OfADealtGroupHaveTheBitsThatTheyHaveUndealt) {
  for (const MeshDegrees& degrees :
       {MeshDegrees{.data = 2}, {.data = 4}, {.data = 2, .tensor = 2}, {.data = 3}}) {
    for (const Dealing dealing : {Dealing::kElements, Dealing::kParameters}) {
      ThreadGroup(degrees.data * degrees.tensor).run([&](Communicator& world) {
        const Mesh mesh(world, MeshShape(degrees));
        LargeModel whole(mesh, Dealing::kWhole), dealt(mesh, dealing);
        GradientReduction(whole.table, mesh).finish();
        GradientReduction(dealt.table, mesh).finish();
        const ParameterGroup &expected = whole.table.groups()[0], &actual = dealt.table.groups()[0];
        for (const Stretch& stretch : actual.owned)
          EXPECT_TRUE(at::equal(
              actual.gradient_of(stretch).narrow(
                  0, 0, std::min(stretch.range.size(), expected.deal.count - stretch.range.begin)),
              expected.grad.slice(0, stretch.range.begin, stretch.range.end)));
        EXPECT_EQ(gradient_norm(dealt.table.groups(), mesh),
                  gradient_norm(whole.table.groups(), mesh));
      });
    }
  }
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
