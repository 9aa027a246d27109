#include <cmath>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "optim/optimizer.h"
#include "parallel/single.h"

namespace switchyard::optim {
namespace {

constexpr double kRate = 0.01;
constexpr int kSteps = 12;

config::Optimizer options() {
  config::Optimizer optimizer;
  optimizer.set_beta1(0.9);
  optimizer.set_beta2(0.95);
  optimizer.set_eps(1e-8);
  optimizer.set_weight_decay(0.1);
  optimizer.set_clip_norm(0);
  return optimizer;
}

double gradient_of(int step, int64_t i) {
  return std::sin(3.0 * step + 0.7 * static_cast<double>(i));
}

// A matrix that decays and a norm that does not.
struct Weights {
  explicit Weights(at::ScalarType type)
      : matrix(Scope(table).matrix("matrix", {4, 9}, {Init::kNormal, 0.5})),
        norm(Scope(table).vector("norm", {5}, Use::kScale, {Init::kConstant, 1})) {
    table.allocate(type);
    table.initialize(11);
  }
  void set_gradients(int step) {
    for (Parameter* parameter : {&matrix, &norm}) {
      const at::Tensor flat = parameter->grad.view(-1);
      for (int64_t i = 0; i < flat.numel(); ++i) flat[i] = gradient_of(step, i);
    }
  }

  std::unique_ptr<parallel::Communicator> world = parallel::make_single();
  parallel::Mesh mesh{*world, MeshShape()};
  ParameterTable table;
  Parameter& matrix;
  Parameter& norm;
};

// One weight by the paper's algorithm 2, with the moments as explicit sums over all past gradients.
double reference(double weight, int64_t i, double decay, double gradient_scale) {
  for (int t = 1; t <= kSteps; ++t) {
    double first = 0, second = 0;
    for (int past = 1; past <= t; ++past) {
      const double gradient = gradient_scale * gradient_of(past, i);
      first += 0.1 * std::pow(0.9, t - past) * gradient;
      second += 0.05 * std::pow(0.95, t - past) * gradient * gradient;
    }
    first /= 1 - std::pow(0.9, t);
    second /= 1 - std::pow(0.95, t);
    weight -= kRate * (first / (std::sqrt(second) + 1e-8) + decay * weight);
  }
  return weight;
}

void expect_reference(const Parameter& parameter, const at::Tensor& before, double decay,
                      double gradient_scale) {
  const at::Tensor after = parameter.master.view(-1), start = before.view(-1);
  for (int64_t i = 0; i < after.numel(); ++i) {
    EXPECT_NEAR(after[i].item<double>(),
                reference(start[i].item<double>(), i, decay, gradient_scale), 1e-12)
        << parameter.name << " " << i;
  }
}

TEST(AdamW, FollowsThePaperInFloat64AndDecaysOnlyWhereAsked) {
  Weights weights(at::kDouble);
  const at::Tensor matrix = weights.matrix.master.clone(), norm = weights.norm.master.clone();
  const auto optimizer = make_adamw(options(), weights.table.groups(), weights.mesh);
  for (int step = 1; step <= kSteps; ++step) {
    weights.set_gradients(step);
    optimizer->step(kRate, 1);
  }
  EXPECT_EQ(optimizer->num_steps(), kSteps);
  expect_reference(weights.matrix, matrix, 0.1, 1);
  expect_reference(weights.norm, norm, 0, 1);
}

TEST(AdamW, ScalesLongGradientsToTheClipNormAndLeavesShortOnes) {
  auto clipping = options();
  clipping.set_clip_norm(0.5);
  for (const double norm : {2.0, 0.5, 0.1}) {
    Weights weights(at::kDouble);
    const at::Tensor matrix = weights.matrix.master.clone();
    const auto optimizer = make_adamw(clipping, weights.table.groups(), weights.mesh);
    const double factor = norm > 0.5 ? 0.5 / norm : 1;
    EXPECT_DOUBLE_EQ(optimizer->clip_factor(norm), factor);
    for (int step = 1; step <= kSteps; ++step) {
      weights.set_gradients(step);
      optimizer->step(kRate, norm);
    }
    expect_reference(weights.matrix, matrix, 0.1, factor);
    double first = 0;
    for (int t = 1; t <= kSteps; ++t) {
      first += 0.1 * std::pow(0.9, kSteps - t) * factor * gradient_of(t, 0);
    }
    EXPECT_NEAR(optimizer->state()[0].owned[0].values[0].item<double>(), first, 1e-12);
  }
}

TEST(AdamW, NeverClipsWithAClipNormOfZero) {
  Weights weights(at::kDouble);
  const auto optimizer = make_adamw(options(), weights.table.groups(), weights.mesh);
  EXPECT_EQ(optimizer->clip_factor(1e30), 1);
}

TEST(AdamW, RefreshesTheComputeValueFromTheMaster) {
  Weights weights(at::kBFloat16);
  const auto optimizer = make_adamw(options(), weights.table.groups(), weights.mesh);
  const at::Tensor before = weights.matrix.value.clone();
  for (int step = 1; step <= kSteps; ++step) {
    weights.set_gradients(step);
    optimizer->step(kRate, 1);
    for (const Parameter& parameter : weights.table.parameters()) {
      EXPECT_EQ(parameter.value.scalar_type(), at::kBFloat16);
      EXPECT_TRUE(at::equal(parameter.value.detach(), parameter.master.to(at::kBFloat16)));
    }
  }
  EXPECT_FALSE(at::equal(weights.matrix.value, before));
}

TEST(AdamW, GoesOnFromRestoredMomentsAsIfItHadNeverStopped) {
  Weights whole(at::kFloat), halves(at::kFloat);
  const auto uninterrupted = make_adamw(options(), whole.table.groups(), whole.mesh);
  auto current = make_adamw(options(), halves.table.groups(), halves.mesh);
  for (int step = 1; step <= kSteps; ++step) {
    whole.set_gradients(step);
    uninterrupted->step(kRate, 1);
    if (step == kSteps / 2) {
      auto restored = make_adamw(options(), halves.table.groups(), halves.mesh);
      const auto from = current->state(), to = restored->state();
      for (size_t i = 0; i < to.size(); ++i) to[i].owned[0].values.copy_(from[i].owned[0].values);
      restored->set_num_steps(current->num_steps());
      current = std::move(restored);
    }
    halves.set_gradients(step);
    current->step(kRate, 1);
  }
  EXPECT_TRUE(at::equal(whole.matrix.master, halves.matrix.master));
  EXPECT_TRUE(at::equal(whole.norm.master, halves.norm.master));
}

}  // namespace
}  // namespace switchyard::optim
