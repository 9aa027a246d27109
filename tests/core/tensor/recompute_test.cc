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

  Recomputed counted_layer() {
    return [this](const std::vector<at::Tensor>& inputs) {
      ++runs;
      return layer(inputs[0]);
    };
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
  const Recomputed f = model.counted_layer();
  recompute(f, {recompute(f, {x})}).square().sum().backward();
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
  recompute(again.counted_layer(), {x}).sum().backward();
  EXPECT_TRUE(at::equal(again.table.groups()[0].grad, plain.table.groups()[0].grad));
  EXPECT_GT(again.table.groups()[0].grad.abs().sum().item<float>(), 0);
}

TEST(Recompute, Nests) {
  Model plain, again;
  const at::Tensor expected = run_plain(plain);
  const Recomputed inner = again.counted_layer();
  const auto outer = [&](const std::vector<at::Tensor>& h) {
    return recompute(inner, {recompute(inner, h)});
  };
  const at::Tensor x = draw({10, 8}, at::kFloat).set_requires_grad(true);
  recompute(outer, {x}).square().sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), expected));
  EXPECT_TRUE(at::equal(again.table.groups()[0].grad, plain.table.groups()[0].grad));
}

TEST(Recompute, RunsOnceWhenGradientsAreOff) {
  Model model;
  at::NoGradGuard no_grad;
  const at::Tensor y = recompute(model.counted_layer(), {draw({10, 8}, at::kFloat)});
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(model.runs, 1);
}

TEST(Recompute, GivesEachInputItsGradient) {
  const auto leaf = [](double factor) {
    return (draw({10, 8}, at::kFloat) * factor).detach().set_requires_grad(true);
  };
  const at::Tensor x = leaf(1), y = leaf(2), constant = draw({10, 8}, at::kFloat);
  const Recomputed f = [](const std::vector<at::Tensor>& inputs) {
    EXPECT_FALSE(inputs[3].defined());
    return inputs[0] * inputs[1].square() * inputs[2];
  };
  recompute(f, {x, constant, y, {}}).sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), constant.square() * y.detach()));
  EXPECT_TRUE(at::equal(y.grad(), x.detach() * constant.square()));
  EXPECT_FALSE(constant.grad().defined());
}

}  // namespace
}  // namespace switchyard
