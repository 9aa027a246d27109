#include "models/local_experts.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;

at::Tensor row(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

// One case with three experts, worked out by hand.
struct Example {
  at::Tensor logits = row({0.5, 0.3, 0.2}).log().unsqueeze(0).requires_grad_();
  at::Tensor outputs = row({1, 0, 0, 1, 0.5, 0.5}).view({1, 3, 2}).contiguous().requires_grad_();
  at::Tensor target = row({1, 0}).unsqueeze(0);

  double error(config::ExpertError kind) {
    const at::Tensor error_T = expert_error({logits, outputs}, target, kind);
    error_T.sum().backward();
    return error_T.item<double>();
  }
};

void expect_near(const at::Tensor& actual, const std::vector<double>& expected) {
  const at::Tensor flat = actual.flatten();
  ASSERT_EQ(flat.numel(), static_cast<int64_t>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected[i], 1e-6) << i;
  }
}

TEST(ExpertError, CooperativeCouplesTheExperts) {
  Example example;
  EXPECT_NEAR(example.error(config::COOPERATIVE), 0.32, 1e-12);
  expect_near(example.logits.grad(), {-0.32, 0.288, 0.032});
  // -2 p_i (d - blend), blend = (0.6, 0.4)
  expect_near(example.outputs.grad(), {-0.4, 0.4, -0.24, 0.24, -0.16, 0.16});
}

TEST(ExpertError, CompetitiveWeighsEachExpertsOwnError) {
  Example example;
  EXPECT_NEAR(example.error(config::COMPETITIVE), 0.70, 1e-12);
  expect_near(example.logits.grad(), {-0.35, 0.39, -0.04});
  // -2 p_i (d - o_i)
  expect_near(example.outputs.grad(), {0, 0, -0.6, 0.6, -0.2, 0.2});
}

TEST(ExpertError, MixtureIsTheLikelihoodWithThePosteriorAsGradient) {
  Example example;
  const std::vector<double> posterior{0.652636, 0.144055, 0.203309};
  EXPECT_NEAR(example.error(config::MIXTURE), 0.266411, 1e-6);
  expect_near(example.logits.grad(), {-0.152636, 0.155945, -0.003309});
  // -h_i (d - o_i)
  expect_near(example.outputs.grad(),
              {0, 0, -posterior[1], posterior[1], -posterior[2] / 2, posterior[2] / 2});
}

TEST(ExpertError, OfAMixtureDoesNotUnderflowFarFromTheTarget) {
  const at::Tensor far = at::full({1, 2, 1}, 100.0, at::kDouble);
  const at::Tensor error = expert_error({at::zeros({1, 2}, at::kDouble), far},
                                        at::zeros({1, 1}, at::kDouble), config::MIXTURE);
  EXPECT_NEAR(error.item<double>(), 5000, 1e-9);
}

// How fast an output moves: the length of its gradient at equal gates, targets 0, outputs at the
// given distances.
std::vector<double> speeds(const std::vector<double>& distances, config::ExpertError kind) {
  const auto count = static_cast<int64_t>(distances.size());
  const at::Tensor outputs = row(distances).view({1, count, 1}).contiguous().requires_grad_();
  expert_error({at::zeros({1, count}, at::kDouble), outputs}, at::zeros({1, 1}, at::kDouble), kind)
      .sum()
      .backward();
  std::vector<double> result;
  for (int64_t i = 0; i < count; ++i) {
    result.push_back(std::abs(outputs.grad().flatten()[i].item<double>()));
  }
  return result;
}

TEST(ExpertError, LetsTheBestExpertAdaptFastestInTheMixtureAndSlowestInTheCompetition) {
  const std::vector<double> distances{1, 2, 3};
  const auto mixture = speeds(distances, config::MIXTURE);
  const auto competitive = speeds(distances, config::COMPETITIVE);
  for (size_t i = 1; i < distances.size(); ++i) {
    const double ratio = distances[0] / distances[i];
    EXPECT_NEAR(competitive[0] / competitive[i], ratio, 1e-12);
    const double advantage = std::exp((distances[i] * distances[i] - 1) / 2);
    EXPECT_NEAR(mixture[0] / mixture[i], ratio * advantage, 1e-9);
    EXPECT_GT(mixture[0], mixture[i]);
    EXPECT_LT(competitive[0], competitive[i]);
  }
}

config::Model model_of(int experts, int hidden) {
  config::Model model;
  model.set_architecture(config::LOCAL_EXPERTS);
  model.set_d_model(3);
  model.set_vocab_size(2);
  model.set_init_std(0.5);
  model.mutable_local_experts()->set_num_experts(experts);
  model.mutable_local_experts()->set_hidden_units(hidden);
  model.mutable_local_experts()->set_output(config::LOGISTIC);
  model.mutable_local_experts()->set_error(config::MIXTURE);
  return model;
}

struct Instance {
  explicit Instance(const config::Model& model) : experts(Scope(table), model) {
    table.allocate(at::kDouble);
    table.initialize(7);
  }
  double loss() const { return share().item<double>(); }
  at::Tensor share(parallel::NamedSums* sums = nullptr) const {
    StepContext context;
    context.sums = sums;
    TokenBatch batch{at::zeros({4, 1}, at::kLong),
                     at::tensor({0, 1, 1, -1}, at::kLong).view({4, 1}),
                     at::zeros({4, 1}, at::kInt)};
    batch.features_BD = (at::arange(12, at::kFloat) * 0.37).sin().view({4, 3});
    return experts.case_errors(batch, context).sum() * 0.5;
  }
  ParameterTable table;
  LocalExperts experts;
};

void expect_gradients(const config::Model& model) {
  Instance instance(model);
  instance.share().backward();
  for (Parameter& parameter : instance.table.parameters()) {
    SCOPED_TRACE(parameter.name);
    EXPECT_GT(parameter.grad.abs().max().item<double>(), 1e-4);
    expect_gradient(parameter.master, parameter.grad, [&] { return instance.loss(); });
  }
}

TEST(LocalExperts, HaveTheGradientsOfFiniteDifferences) {
  for (const auto& [experts, hidden] : {std::pair{3, 0}, {2, 4}, {1, 5}}) {
    for (const auto error : {config::COOPERATIVE, config::COMPETITIVE, config::MIXTURE}) {
      for (const auto output : {config::LOGISTIC, config::IDENTITY}) {
        SCOPED_TRACE(config::ExpertError_Name(error) + " of " + config::ExpertOutput_Name(output));
        config::Model model = model_of(experts, hidden);
        model.mutable_local_experts()->set_error(error);
        model.mutable_local_experts()->set_output(output);
        expect_gradients(model);
      }
    }
  }
}

TEST(LocalExperts, OfIdentityOutputAreNotBounded) {
  for (const auto output : {config::LOGISTIC, config::IDENTITY}) {
    config::Model model = model_of(3, 0);
    model.set_init_std(50);
    model.mutable_local_experts()->set_output(output);
    parallel::NamedSums sums;
    Instance(model).share(&sums);
    EXPECT_EQ(sums["error"].mean() > 1, output == config::IDENTITY);  // logistic: at most 1
  }
}

TEST(LocalExperts, CountRightCasesAndLeaveOutPadding) {
  const Instance instance(model_of(3, 0));
  parallel::NamedSums sums;
  instance.share(&sums);
  const parallel::Sum error = sums.at("error"), accuracy = sums.at("accuracy");
  EXPECT_EQ(error.weight, 3);
  EXPECT_EQ(accuracy.weight, 3);
  EXPECT_GE(accuracy.total, 0);
  EXPECT_LE(accuracy.total, 3);
  EXPECT_GT(error.mean(), 0);
  EXPECT_LT(error.mean(), 1);
}

TEST(LocalExperts, HaveNoGateWhenThereIsOneExpert) {
  const Instance instance(model_of(1, 6));
  for (const Parameter& parameter : instance.table.parameters()) {
    EXPECT_EQ(parameter.name.find("gate"), std::string::npos);
  }
  EXPECT_EQ(instance.table.parameters().size(), 4u);
}

}  // namespace
}  // namespace switchyard::models
