#include "core/tensor/recompute.h"
#include "core/tensor/aten.h"

#include <gtest/gtest.h>

#include "core/tensor/ops.h"
#include "tests/core/tensor/op_case.h"

namespace switchyard {
namespace {

using testing::draw;
using testing::fill_table;

struct Model {
  ParameterTable table;
  int runs = 0;

  Model() { fill_table(table, {{2, 24, 8}, {2, 8, 12}, {8}, {8, 8}}, at::kFloat); }

  at::Tensor layer(const at::Tensor& x) {
    std::deque<Parameter>& w = table.parameters();
    const at::Tensor h = linear(rms_norm(x, w[2], 1e-5), w[3]);
    return x +
           ffn_experts(h, {&w[0], &w[1]}, Activation::kSwiglu, {0, 4, 10}) * use(w[2], at::kFloat);
  }

  at::Tensor counted_layer(const at::Tensor& x) {
    ++runs;
    return layer(x);
  }
};

// Two layers and a loss; returns the gradient of x.
at::Tensor run_plain(Model& model) {
  const at::Tensor x = draw({10, 8}, at::kFloat).set_requires_grad(true);
  model.layer(model.layer(x)).square().sum().backward();
  return x.grad();
}

at::Tensor run_recomputed(Model& model) {
  const at::Tensor x = draw({10, 8}, at::kFloat).set_requires_grad(true);
  const auto f = [&](const at::Tensor& h) { return model.counted_layer(h); };
  recompute(f, recompute(f, x)).square().sum().backward();
  return x.grad();
}

TEST(Recompute, GivesTheSameGradientsBitwise) {
  Model plain, again;
  const at::Tensor expected = run_plain(plain), actual = run_recomputed(again);
  EXPECT_TRUE(at::equal(actual, expected));
  EXPECT_TRUE(at::equal(again.table.groups()[0].grad, plain.table.groups()[0].grad));
  EXPECT_EQ(again.runs, 4);
}

TEST(Recompute, ReachesParametersWhenTheInputNeedsNoGradient) {
  Model plain, again;
  const at::Tensor x = draw({10, 8}, at::kFloat);
  plain.layer(x).sum().backward();
  recompute([&](const at::Tensor& h) { return again.layer(h); }, x).sum().backward();
  EXPECT_TRUE(at::equal(again.table.groups()[0].grad, plain.table.groups()[0].grad));
  EXPECT_GT(again.table.groups()[0].grad.abs().sum().item<float>(), 0);
}

TEST(Recompute, Nests) {
  Model plain, again;
  const at::Tensor expected = run_plain(plain);
  const auto inner = [&](const at::Tensor& h) { return again.layer(h); };
  const auto outer = [&](const at::Tensor& h) { return recompute(inner, recompute(inner, h)); };
  const at::Tensor x = draw({10, 8}, at::kFloat).set_requires_grad(true);
  recompute(outer, x).square().sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), expected));
  EXPECT_TRUE(at::equal(again.table.groups()[0].grad, plain.table.groups()[0].grad));
}

TEST(Recompute, RunsOnceWhenGradientsAreOff) {
  Model model;
  at::NoGradGuard no_grad;
  const at::Tensor y = recompute([&](const at::Tensor& h) { return model.counted_layer(h); },
                                 draw({10, 8}, at::kFloat));
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(model.runs, 1);
}

}  // namespace
}  // namespace switchyard
