#include "tests/core/tensor/op_case.h"

#include "core/base/random.h"
#include "core/tensor/aten.h"
#include "core/tensor/device_ops.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::testing {
namespace {

at::Tensor input_of(const OpCase& c, at::ScalarType type) {
  if (c.input.empty()) return {};
  if (!c.strided_input) return draw(c.input, type).set_requires_grad(true);
  std::vector<int64_t> wider = c.input;
  wider.back() += 3;
  const at::Tensor view = draw(wider, type).narrow(-1, 2, c.input.back());
  return view.detach().set_requires_grad(true);
}

// The output's gradient: a loss must have 1.
at::Tensor upstream(const at::Tensor& y) {
  return y.dim() == 0 ? at::ones_like(y) : draw(y.sizes().vec(), y.scalar_type(), 99);
}

double weighted_output(const OpCase& c, const at::Tensor& x, ParameterTable& table,
                       const at::Tensor& dy) {
  at::NoGradGuard no_grad;
  return (c.op(x, table.parameters()) * dy).sum().item<double>();
}

}  // namespace

at::Tensor draw(const std::vector<int64_t>& shape, at::ScalarType type, uint64_t seed) {
  at::Tensor x = at::empty(shape, at::kDouble);
  const Random random(seed, Stream::kSynthetic);
  for (int64_t i = 0; i < x.numel(); ++i) x.data_ptr<double>()[i] = 0.5 * random.normal(i);
  return x.to(type);
}

void fill_table(ParameterTable& table, const std::vector<std::vector<int64_t>>& shapes,
                at::ScalarType compute, bool trains) {
  for (size_t i = 0; i < shapes.size(); ++i) {
    Scope(table).matrix(fmt::format("w{}", i), shapes[i], {Init::kNormal, 0.5}).trains = trains;
  }
  table.allocate(compute);
  table.initialize(5);
}

static void expect_agrees_one_way(const OpCase& c, at::ScalarType compute) {
  ParameterTable table;
  fill_table(table, c.weights, compute);
  const at::Tensor x = input_of(c, compute);
  const at::Tensor y = c.op(x, table.parameters());
  const at::Tensor dy = upstream(y);
  y.backward(dy);

  std::vector<at::Tensor> weights;
  for (const Parameter& parameter : table.parameters()) {
    weights.push_back(parameter.value.detach().to(at::kDouble, false, true));
    weights.back().set_requires_grad(true);
  }
  const at::Tensor x64 =
      x.defined() ? x.detach().to(at::kDouble, false, true).set_requires_grad(true) : x;
  const at::Tensor y64 = c.reference(x64, weights);
  y64.backward(dy.to(at::kDouble));

  const double tolerance = tolerance_of(compute);
  EXPECT_TRUE(is_near(y, y64, tolerance)) << "output";
  if (x.defined()) {
    EXPECT_TRUE(is_near(x.grad(), x64.grad(), tolerance)) << "input's gradient";
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    EXPECT_TRUE(is_near(table.parameters()[i].grad, weights[i].grad(), tolerance))
        << "gradient of weight " << i;
    EXPECT_FALSE(table.parameters()[i].value.grad().defined()) << "autograd must not keep one";
  }
}

static void expect_matches_finite_differences_one_way(const OpCase& c) {
  ParameterTable table;
  fill_table(table, c.weights, at::kDouble);
  const at::Tensor x = input_of(c, at::kDouble);
  const at::Tensor y = c.op(x, table.parameters());
  const at::Tensor dy = upstream(y);
  y.backward(dy);
  const auto f = [&] { return weighted_output(c, x, table, dy); };
  constexpr Differences kOptions{.step = 1e-5, .tolerance = 1e-8};
  if (x.defined()) expect_gradient(x, x.grad(), f, kOptions);
  for (Parameter& parameter : table.parameters()) {
    SCOPED_TRACE(parameter.name);
    expect_gradient(parameter.value, parameter.grad, f, kOptions);
  }
}

void expect_agrees(const OpCase& c, at::ScalarType compute) {
  SCOPED_TRACE(at::toString(compute));
  expect_agrees_one_way(c, compute);
  SCOPED_TRACE("the plain way");
  const PlainOpsGuard guard;
  expect_agrees_one_way(c, compute);
}

void expect_matches_finite_differences(const OpCase& c) {
  expect_matches_finite_differences_one_way(c);
  SCOPED_TRACE("the plain way");
  const PlainOpsGuard guard;
  expect_matches_finite_differences_one_way(c);
}

}  // namespace switchyard::testing
