#include "models/layers/lstm.h"

#include <cmath>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "models/model.h"
#include "models/sampled_softmax.h"
#include "parallel/single.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;

constexpr int64_t kInput = 3, kHidden = 4, kSequences = 2, kLength = 5;

struct Instance {
  explicit Instance(int64_t projection)
      : lstm(Scope(table) / "lstm", {kInput, kHidden, projection}, 0.6) {
    table.allocate(at::kDouble);
    table.initialize(3);
    parameter("lstm.bias").master.copy_((at::arange(4 * kHidden, at::kDouble) * 0.3).cos());
  }
  Parameter& parameter(const std::string& name) {
    for (Parameter& parameter : table.parameters()) {
      if (parameter.name == name) return parameter;
    }
    throw std::out_of_range(name);
  }
  at::Tensor run(const at::Tensor& x, const at::Tensor& documents = {}) const {
    return lstm.forward(x, kSequences, documents, nullptr);
  }

  ParameterTable table;
  Lstm lstm;
};

at::Tensor input() {
  return (at::arange(kSequences * kLength * kInput, at::kDouble) * 0.71)
      .sin()
      .view({kSequences * kLength, kInput});
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// One sequence by the formulas, number by number; row r of `x` is position r.
std::vector<std::vector<double>> reference(Instance& instance, const at::Tensor& x,
                                           int64_t projection) {
  const at::Tensor w = instance.parameter("lstm.input").master,
                   r = instance.parameter("lstm.recurrent").master,
                   b = instance.parameter("lstm.bias").master;
  const int64_t output = projection > 0 ? projection : kHidden;
  std::vector<double> cell(kHidden, 0), hidden(output, 0);
  std::vector<std::vector<double>> outputs;
  for (int64_t t = 0; t < x.size(0); ++t) {
    std::vector<double> gate(4 * kHidden);
    for (int64_t g = 0; g < 4 * kHidden; ++g) {
      gate[g] = b[g].item<double>();
      for (int64_t i = 0; i < kInput; ++i)
        gate[g] += w[g][i].item<double>() * x[t][i].item<double>();
      for (int64_t i = 0; i < output; ++i) gate[g] += r[g][i].item<double>() * hidden[i];
    }
    std::vector<double> full(kHidden);
    for (int64_t h = 0; h < kHidden; ++h) {
      cell[h] = sigmoid(gate[kHidden + h] + 1) * cell[h] +
                sigmoid(gate[h]) * std::tanh(gate[2 * kHidden + h]);
      full[h] = sigmoid(gate[3 * kHidden + h]) * std::tanh(cell[h]);
    }
    hidden = full;
    if (projection > 0) {
      const at::Tensor p = instance.parameter("lstm.projection").master;
      hidden.assign(output, 0);
      for (int64_t o = 0; o < output; ++o) {
        for (int64_t h = 0; h < kHidden; ++h) hidden[o] += p[o][h].item<double>() * full[h];
      }
    }
    outputs.push_back(hidden);
  }
  return outputs;
}

TEST(Lstm, FollowsItsEquationsWithAndWithoutProjection) {
  for (const int64_t projection : {0, 2}) {
    Instance instance(projection);
    const at::Tensor x = input();
    const at::Tensor y = instance.run(x).view({kSequences, kLength, -1});
    for (int64_t b = 0; b < kSequences; ++b) {
      const auto expected = reference(instance, x.narrow(0, b * kLength, kLength), projection);
      for (int64_t t = 0; t < kLength; ++t) {
        EXPECT_TRUE(is_near(y[b][t], at::tensor(expected[t], at::kDouble), 1e-12)) << b << t;
      }
    }
  }
}

TEST(Lstm, ForgetsAtADocumentsEnd) {
  const Instance instance(2);
  const at::Tensor x = input();
  const at::Tensor documents = at::tensor({0, 0, 0, 1, 1, 0, 1, 1, 1, 1}, at::kInt).view({2, 5});
  const at::Tensor whole = instance.run(x, documents).view({2, 5, 2});
  const auto alone = [&](int64_t first, int64_t rows) {
    return instance.lstm.forward(x.narrow(0, first, rows), 1, {}, nullptr);
  };
  EXPECT_TRUE(is_near(whole[0].narrow(0, 0, 3), alone(0, 3), 1e-12));
  EXPECT_TRUE(is_near(whole[0].narrow(0, 3, 2), alone(3, 2), 1e-12));
  EXPECT_TRUE(is_near(whole[1].narrow(0, 0, 1), alone(5, 1), 1e-12));
  EXPECT_TRUE(is_near(whole[1].narrow(0, 1, 4), alone(6, 4), 1e-12));
}

TEST(Lstm, GoesOnFromTheStateItLeft) {
  const Instance instance(0);
  const at::Tensor x = input().narrow(0, 0, kLength);
  const at::Tensor whole = instance.lstm.forward(x, 1, {}, nullptr);
  LstmState state;
  const at::Tensor first = instance.lstm.forward(x.narrow(0, 0, 2), 1, {}, &state);
  const at::Tensor rest = instance.lstm.forward(x.narrow(0, 2, 3), 1, {}, &state);
  EXPECT_TRUE(is_near(at::concat({first, rest}), whole, 1e-12));
}

TEST(Lstm, HasTheGradientsOfFiniteDifferences) {
  Instance instance(2);
  const at::Tensor documents = at::tensor({0, 0, 0, 1, 1, 0, 1, 1, 1, 1}, at::kInt).view({2, 5});
  const at::Tensor x = input().requires_grad_();
  const auto loss = [&] { return instance.run(x, documents).pow(3).sum(); };
  loss().backward();
  const auto value = [&] { return loss().item<double>(); };
  for (Parameter& parameter : instance.table.parameters()) {
    SCOPED_TRACE(parameter.name);
    expect_gradient(parameter.master, parameter.grad, value);
  }
  expect_gradient(x, x.grad(), value);
}

// Embedding, LSTMs, noisy experts and sampled softmax together.
TEST(LstmLm, HasTheGradientsOfFiniteDifferences) {
  config::Model model = switchyard::testing::tiny_lstm_lm().model();
  // Auxiliary losses are in the gradient alone.
  model.mutable_moe()->mutable_balance_loss()->set_coefficient(0);
  model.mutable_moe()->set_z_loss_coefficient(0);
  model.mutable_moe()->mutable_router()->set_noise(config::LEARNED_NOISE);
  const auto world = parallel::make_single();
  const parallel::Mesh mesh(*world, MeshShape());
  ParameterTable table;
  const Model instance(Scope(table), model, mesh);
  table.allocate(at::kDouble);
  table.initialize(4);
  const at::Tensor tokens = (at::arange(12, at::kLong) * 7).remainder(32).view({2, 6});
  const TokenBatch batch{tokens, (tokens + 5).remainder(32), at::zeros({2, 6}, at::kInt)};
  StepContext context;
  context.training = true;
  context.group_tokens = 6;
  context.count.in_step = context.count.in_micro_batch = 12;
  const auto loss = [&] { return instance.loss(batch, context, 1, false); };
  loss().backward();
  const auto value = [&] {
    const at::NoGradGuard no_grad;
    return loss().item<double>();
  };
  for (const Parameter& parameter : table.parameters()) {
    SCOPED_TRACE(parameter.name);
    expect_gradient(parameter.master, parameter.grad, value,
                    {.step = 1e-5, .tolerance = 1e-8, .most_elements = 11});
  }
}

struct Vocabulary {
  Vocabulary() : weight(Scope(table).matrix("output", {9, 4}, {Init::kNormal, 1})) {
    table.allocate(at::kDouble);
    table.initialize(2);
  }
  ParameterTable table;
  Parameter& weight;
};

TEST(SampledSoftmax, ComparesEachTargetWithTheCandidates) {
  Vocabulary vocabulary;
  const at::Tensor hidden = (at::arange(12, at::kDouble) * 0.9).cos().view({3, 4}).contiguous();
  const at::Tensor targets = at::tensor({4, -1, 0}, at::kLong);
  const at::Tensor candidates = at::tensor({0, 2, 2, 7}, at::kLong);
  const double actual =
      sampled_softmax(hidden, vocabulary.weight, targets, candidates, 0.5).item<double>();
  const auto adjusted = [&](int64_t row, int64_t word) {
    const double logit = (hidden[row] * vocabulary.weight.master[word]).sum().item<double>();
    const double w = static_cast<double>(word);
    return logit - std::log(4 * std::log((w + 2) / (w + 1)) / std::log(10.0));
  };
  const auto nll = [&](int64_t row, int64_t target, const std::vector<int64_t>& others) {
    double sum = std::exp(adjusted(row, target));
    for (const int64_t word : others) sum += std::exp(adjusted(row, word));
    return std::log(sum) - adjusted(row, target);
  };
  EXPECT_NEAR(actual, 0.5 * (nll(0, 4, {0, 2, 2, 7}) + nll(2, 0, {2, 2, 7})), 1e-12);
}

TEST(SampledSoftmax, DrawsWordsAsOftenAsItSays) {
  StepContext context;
  context.key.seed = 9;
  const int64_t kDraws = 200'000;
  const at::Tensor words = draw_candidates(9, kDraws, context);
  const at::Tensor share = at::bincount(words, {}, 9).to(at::kDouble) / kDraws;
  double sum = 0;
  for (int64_t w = 0; w < 9; ++w) {
    const double word = static_cast<double>(w);
    const double expected = std::log((word + 2) / (word + 1)) / std::log(10.0);
    EXPECT_NEAR(share[w].item<double>(), expected, 0.005) << w;
    sum += expected;
  }
  EXPECT_NEAR(sum, 1, 1e-12);
  context.key.step = 1;
  EXPECT_FALSE(at::equal(draw_candidates(9, kDraws, context), words));
}

}  // namespace
}  // namespace switchyard::models
