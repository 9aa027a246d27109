// When gradients are said to be complete.

#include <map>
#include <string>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "core/tensor/ops.h"
#include "core/tensor/parameter.h"
#include "core/tensor/recompute.h"
#include "core/tensor/vocabulary_loss.h"
#include "tests/core/tensor/op_case.h"

namespace switchyard {
namespace {

enum class Running : uint8_t { kPlain, kRecomputed, kNested };

// Tied embeddings, two layers that share a matrix and have a norm each, a matrix that nothing uses
// and one that does not train.
struct Model {
  explicit Model(Running how) : running(how) {
    const Scope root(table);
    const Init init{Init::kNormal, 0.5};
    embedding_table = &root.table("embedding", {13, 8}, init);
    shared = &root.matrix("shared", {8, 8}, init);
    for (int i = 0; i < 2; ++i)
      norms.push_back(
          &(root / "layers" / i).vector("norm", {8}, Use::kScale, {Init::kConstant, 1}));
    root.matrix("unused", {3, 3}, init);
    frozen = &root.matrix("frozen", {8, 8}, init);
    frozen->trains = false;
    table.allocate(at::kFloat);
    table.initialize(5);
  }

  at::Tensor layer(size_t i, const at::Tensor& x) {
    return x + linear(linear(rms_norm(x, *norms[i], 1e-5), *shared), *frozen);
  }

  at::Tensor run(size_t i, const at::Tensor& x) {
    const Recomputed f = [this, i](const std::vector<at::Tensor>& h) { return layer(i, h[0]); };
    if (running == Running::kPlain) return f({x});
    if (running == Running::kRecomputed) return recompute(f, {x});
    return recompute([f](const std::vector<at::Tensor>& h) { return recompute(f, h); }, {x});
  }

  at::Tensor loss(int micro_batch) {
    const at::Tensor ids = (at::arange(6, at::kLong) * 5 + micro_batch).remainder(13);
    const at::Tensor y = run(1, run(0, embedding(ids, *embedding_table)));
    CrossEntropyLoss loss((ids + 1).remainder(13), 0.1);
    return vocabulary_loss(y, *embedding_table, loss);
  }

  Running running;
  ParameterTable table;
  Parameter *embedding_table, *shared, *frozen;
  std::vector<Parameter*> norms;
};

struct Firings {
  std::map<std::string, int> count;
  std::map<std::string, at::Tensor> gradient;  // as it was then

  explicit Firings(ParameterTable& table) {
    table.on_gradient_ready([this](Parameter& parameter) {
      ++count[parameter.name];
      gradient[parameter.name] = parameter.grad.clone();
    });
  }
};

struct Case {
  const char* name;
  Running running;
  int micro_batches;
};
class GradientReady : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Ways, GradientReady,
                         ::testing::Values(Case{"Plain1", Running::kPlain, 1},
                                           Case{"Plain3", Running::kPlain, 3},
                                           Case{"Recomputed1", Running::kRecomputed, 1},
                                           Case{"Recomputed3", Running::kRecomputed, 3},
                                           Case{"Nested1", Running::kNested, 1},
                                           Case{"Nested2", Running::kNested, 2}),
                         [](const auto& one) { return one.param.name; });

TEST_P(GradientReady, IsSaidOnceForEachParameterAndStepAfterItsLastContribution) {
  Model model(GetParam().running);
  Firings firings(model.table);
  for (int step = 0; step < 2; ++step) {
    firings.count.clear();
    model.table.zero_gradients();
    for (int i = 0; i < GetParam().micro_batches; ++i) {
      const at::Tensor loss = model.loss(i);
      if (i + 1 == GetParam().micro_batches) {
        model.table.end_forward();
        EXPECT_EQ(firings.count, (std::map<std::string, int>{{"unused", 1}}));
      }
      loss.backward();
    }
    EXPECT_EQ(firings.count.size(), 5u);
    for (const Parameter& parameter : model.table.parameters()) {
      EXPECT_EQ(firings.count[parameter.name], parameter.trains ? 1 : 0) << parameter.name;
      if (!parameter.trains) continue;
      EXPECT_TRUE(at::equal(firings.gradient[parameter.name], parameter.grad)) << parameter.name;
    }
  }
}

// As a pipeline has it.
TEST(GradientReady, WaitsForEveryMicroBatchInFlight) {
  Model model(Running::kRecomputed);
  Firings firings(model.table);
  model.table.zero_gradients();
  const at::Tensor first = model.loss(0), second = model.loss(1);
  model.table.end_forward();
  first.backward();
  EXPECT_EQ(firings.count.size(), 1u);
  second.backward();
  EXPECT_EQ(firings.count.size(), 5u);
}

TEST(GradientReady, IsNotSaidOfAForwardPassWithoutGradients) {
  Model model(Running::kRecomputed);
  Firings firings(model.table);
  model.table.zero_gradients();
  {
    const at::NoGradGuard no_grad;
    model.loss(0);
  }
  const at::Tensor loss = model.loss(1);
  model.table.end_forward();
  loss.backward();
  EXPECT_EQ(firings.count.size(), 5u);
}

}  // namespace
}  // namespace switchyard
