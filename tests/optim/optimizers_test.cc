// Adafactor, SGD and Adam with factored experts, against references that loop over elements.

#include <map>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/optim/weights.h"

namespace switchyard::optim {
namespace {

constexpr double kRate = 0.01;
constexpr int kSteps = 7;

config::Optimizer adafactor() {
  config::Optimizer options;
  options.set_kind(config::ADAFACTOR);
  config::Adafactor& adafactor = *options.mutable_adafactor();
  adafactor.set_decay_exponent(0.8);
  adafactor.set_epsilon(1e-30);
  adafactor.set_update_clip(1.0);
  adafactor.set_scale_by_parameter(true);
  adafactor.set_least_scale(1e-3);
  adafactor.set_least_factored_dim(3);
  adafactor.set_beta2(1);
  return options;
}

config::Optimizer factored_adam() {
  config::Optimizer options;
  options.set_kind(config::ADAM_FACTORED_EXPERTS);
  options.set_beta1(0.9);
  options.set_beta2(0.99);
  options.set_eps(1e-6);
  options.set_weight_decay(0.1);
  return options;
}

config::Optimizer sgd(double momentum, double decay) {
  config::Optimizer options;
  options.set_kind(config::SGD);
  options.set_momentum(momentum);
  options.set_weight_decay(decay);
  return options;
}

std::map<std::string, at::Tensor> train(const config::Optimizer& options,
                                        parallel::Communicator& world, int steps) {
  Weights weights(world);
  const auto optimizer = make_optimizer(options, weights.table.groups(), weights.mesh);
  for (int step = 1; step <= steps; ++step) {
    weights.set_gradients(step);
    optimizer->step(kRate, 1);
  }
  std::map<std::string, at::Tensor> result;
  for (const Parameter& parameter : weights.table.parameters()) {
    at::Tensor whole = parameter.master.clone();
    if (parameter.experts()) {
      const at::Tensor piece = whole.contiguous();
      whole = at::empty(parameter.shape, piece.options());
      weights.mesh.expert().all_gather(piece.const_data_ptr(), whole.mutable_data_ptr(),
                                       static_cast<int64_t>(piece.nbytes()), "experts");
    }
    result[parameter.name] = whole;
  }
  return result;
}

// A stack of matrices as plain numbers; a matrix is a stack of one, a vector a stack of one row.
struct Stack {
  int64_t count, rows, columns;
  std::vector<double> values;
  int64_t size() const { return count * rows * columns; }
};

Stack initial(const std::string& name, int64_t count, int64_t rows, int64_t columns) {
  const auto world = parallel::make_single();
  const Weights weights(*world);
  for (const Parameter& parameter : weights.table.parameters()) {
    if (parameter.name != name) continue;
    const double* data = parameter.master.const_data_ptr<double>();
    return {count, rows, columns, {data, data + parameter.master.numel()}};
  }
  return {};
}

// sqrt(V) of one element, from the squares' means over its row, its column and its matrix.
double factored_root(const Stack& squares, int64_t element) {
  const int64_t matrix = element / (squares.rows * squares.columns);
  const int64_t row = element / squares.columns % squares.rows, column = element % squares.columns;
  double of_row = 0, of_column = 0, of_all = 0;
  for (int64_t i = 0; i < squares.rows; ++i) {
    for (int64_t j = 0; j < squares.columns; ++j) {
      const double square = squares.values[(matrix * squares.rows + i) * squares.columns + j];
      if (i == row) of_row += square / static_cast<double>(squares.columns);
      if (j == column) of_column += square / static_cast<double>(squares.rows);
      of_all += square / static_cast<double>(squares.rows * squares.columns);
    }
  }
  return std::sqrt(of_row * of_column / of_all);
}

double rms(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

// The paper's algorithms 4 and 5. Means are linear, so averaging whole squares over time and
// factoring last gives the same as averaging the means.
std::vector<double> adafactor_reference(const std::string& name, Stack weight, bool factored,
                                        double beta2 = 1) {
  std::vector<double> moment(weight.size(), 0);
  for (int t = 1; t <= kSteps; ++t) {
    const double decay = beta2 * (1 - std::pow(t, -0.8));
    std::vector<double> update(weight.size());
    for (int64_t i = 0; i < weight.size(); ++i) {
      const double g = Weights::gradient_of(t, name, i);
      moment[i] = decay * moment[i] + (1 - decay) * (g * g + 1e-30);
    }
    const Stack squares{weight.count, weight.rows, weight.columns, moment};
    for (int64_t i = 0; i < weight.size(); ++i) {
      const double root = factored ? factored_root(squares, i) : std::sqrt(moment[i]);
      update[i] = Weights::gradient_of(t, name, i) / root;
    }
    const double rate = kRate * std::max(1e-3, rms(weight.values)) / std::max(1.0, rms(update));
    for (int64_t i = 0; i < weight.size(); ++i) weight.values[i] -= rate * update[i];
  }
  return weight.values;
}

void expect_near(const at::Tensor& actual, const std::vector<double>& expected,
                 const std::string& name) {
  ASSERT_EQ(actual.numel(), static_cast<int64_t>(expected.size())) << name;
  const at::Tensor flat = actual.contiguous().view(-1);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(flat[static_cast<int64_t>(i)].item<double>(), expected[i], 1e-12) << name << i;
  }
}

TEST(Adafactor, FollowsThePapersWithAMomentForEachExpert) {
  const auto world = parallel::make_single();
  const auto trained = train(adafactor(), *world, kSteps);
  const auto expect_reference = [&](const char* name, const Stack& start, bool factored) {
    expect_near(trained.at(name), adafactor_reference(name, start, factored), name);
  };
  expect_reference("matrix", initial("matrix", 1, 4, 9), true);
  expect_reference("narrow", initial("narrow", 1, 2, 9), false);  // a side below the least
  expect_reference("norm", initial("norm", 1, 1, 5), false);
  expect_reference("experts", initial("experts", kNumExperts, 3, 6), true);
}

TEST(Adafactor, ForgetsFasterWithBeta2) {
  auto options = adafactor();
  options.mutable_adafactor()->set_beta2(0.9);
  const auto world = parallel::make_single();
  const auto trained = train(options, *world, kSteps);
  expect_near(trained.at("matrix"),
              adafactor_reference("matrix", initial("matrix", 1, 4, 9), true, 0.9), "matrix");
  expect_near(trained.at("norm"), adafactor_reference("norm", initial("norm", 1, 1, 5), false, 0.9),
              "norm");
}

TEST(Adafactor, TakesAbsoluteStepsWithoutScalingByTheParameter) {
  auto options = adafactor();
  options.mutable_adafactor()->set_scale_by_parameter(false);
  const auto world = parallel::make_single();
  const auto trained = train(options, *world, 1);
  const Stack start = initial("norm", 1, 1, 5);
  // The first update of an unfactored moment is the gradient's sign, whose root mean square is 1.
  for (int64_t i = 0; i < 5; ++i) {
    const double sign = Weights::gradient_of(1, "norm", i) > 0 ? 1 : -1;
    EXPECT_NEAR(trained.at("norm")[i].item<double>(), start.values[i] - kRate * sign, 1e-12);
  }
}

TEST(Adafactor, ClipsTheRootMeanSquareOfAnUpdate) {
  auto options = adafactor();
  options.mutable_adafactor()->set_scale_by_parameter(false);
  options.mutable_adafactor()->set_update_clip(0.1);
  const auto world = parallel::make_single();
  const auto trained = train(options, *world, 1);
  const Stack start = initial("matrix", 1, 4, 9);
  std::vector<double> step(start.values);
  const at::Tensor flat = trained.at("matrix").view(-1);
  for (size_t i = 0; i < step.size(); ++i) step[i] -= flat[static_cast<int64_t>(i)].item<double>();
  EXPECT_NEAR(rms(step), kRate * 0.1, 1e-12);
}

// A vector of eight that is cut over the axis, after kSteps, whole.
at::Tensor train_cut(parallel::Communicator& world, Axis axis) {
  const parallel::Mesh mesh(world, MeshShape({.data = world.size()}));
  ParameterTable table;
  Parameter vector;
  vector.name = "cut";
  vector.shape = {8};
  vector.parts = {{"", 8, {Init::kNormal, 0.5}}};
  vector.cuts = {{axis, 0}};
  vector.summed = {};
  vector.layout = mesh.layout();
  Parameter& cut = table.add(vector);
  table.allocate(at::kDouble);
  table.initialize(11);
  const auto optimizer = make_optimizer(adafactor(), table.groups(), mesh);
  const int64_t count = cut.local_count();
  for (int step = 1; step <= kSteps; ++step) {
    for (int64_t i = 0; i < count; ++i)
      cut.grad[i] = Weights::gradient_of(step, "cut", world.rank() * count + i);
    optimizer->step(kRate, 1);
  }
  at::Tensor whole = at::empty({8}, at::kDouble);
  mesh.along(axis).all_gather(cut.master.const_data_ptr(), whole.mutable_data_ptr(),
                              static_cast<int64_t>(cut.master.nbytes()), "cut");
  return whole;
}

TEST(Adafactor, TakesRootMeanSquaresOverWhateverAxisAParameterIsCutOver) {
  const auto single = parallel::make_single();
  for (const Axis axis : {Axis::kData, Axis::kExpertData}) {
    const at::Tensor expected = train_cut(*single, axis);
    parallel::ThreadGroup(2).run([&](parallel::Communicator& world) {
      EXPECT_TRUE(at::allclose(train_cut(world, axis), expected, 1e-12, 1e-14))
          << words_of(axis).name;
    });
  }
}

// One expert of the stack by the formula of Adam with beta1 = 0.
std::vector<double> factored_adam_reference(Stack weight) {
  std::vector<double> moment(weight.size(), 0);
  for (int t = 1; t <= kSteps; ++t) {
    for (int64_t i = 0; i < weight.size(); ++i) {
      const double g = Weights::gradient_of(t, "experts", i);
      moment[i] = 0.99 * moment[i] + 0.01 * g * g;
    }
    const Stack squares{weight.count, weight.rows, weight.columns, moment};
    for (int64_t i = 0; i < weight.size(); ++i) {
      const double root = factored_root(squares, i) / std::sqrt(1 - std::pow(0.99, t));
      const double update = Weights::gradient_of(t, "experts", i) / (root + 1e-6);
      weight.values[i] -= kRate * (update + 0.1 * weight.values[i]);
    }
  }
  return weight.values;
}

TEST(FactoredAdam, TreatsExpertsByThePaperAndTheRestAsAdamW) {
  const auto world = parallel::make_single();
  const auto trained = train(factored_adam(), *world, kSteps);
  expect_near(trained.at("experts"), factored_adam_reference(initial("experts", 4, 3, 6)),
              "experts");
  auto adamw = factored_adam();
  adamw.set_kind(config::ADAMW);
  const auto plain = train(adamw, *world, kSteps);
  EXPECT_TRUE(at::equal(trained.at("matrix"), plain.at("matrix")));
  EXPECT_TRUE(at::equal(trained.at("norm"), plain.at("norm")));
  EXPECT_FALSE(at::equal(trained.at("experts"), plain.at("experts")));
}

TEST(FactoredAdam, LeavesAnExpertWithoutGradientsWhereItIs) {
  auto options = factored_adam();
  options.set_weight_decay(0);
  const auto world = parallel::make_single();
  Weights weights(*world, at::kFloat);
  const at::Tensor before = weights.experts.master.clone();
  const auto optimizer = make_optimizer(options, weights.table.groups(), weights.mesh);
  weights.set_gradients(1);
  weights.experts.grad[2].zero_();
  optimizer->step(kRate, 1);
  EXPECT_TRUE(at::equal(weights.experts.master[2], before[2]));
  EXPECT_FALSE(at::equal(weights.experts.master[1], before[1]));
  EXPECT_TRUE(weights.experts.master.isfinite().all().item<bool>());
}

TEST(Sgd, AddsUpMomentumAndDecaysOnlyWhereAsked) {
  const auto world = parallel::make_single();
  const auto trained = train(sgd(0.9, 0.1), *world, kSteps);
  for (const auto& [name, decay] : {std::pair<std::string, double>{"matrix", 0.1}, {"norm", 0}}) {
    std::vector<double> expected =
        name == "norm" ? initial(name, 1, 1, 5).values : initial(name, 1, 4, 9).values;
    for (size_t i = 0; i < expected.size(); ++i) {
      for (int t = 1; t <= kSteps; ++t) {
        double velocity = 0;  // all gradients so far, each 0.9 of the next
        for (int past = 1; past <= t; ++past) {
          velocity +=
              std::pow(0.9, t - past) * Weights::gradient_of(past, name, static_cast<int64_t>(i));
        }
        expected[i] -= kRate * (velocity + decay * expected[i]);
      }
    }
    expect_near(trained.at(name), expected, name);
  }
}

TEST(Sgd, WithoutMomentumIsPlainDescentAndKeepsNoState) {
  const auto world = parallel::make_single();
  Weights weights(*world);
  const double before = weights.norm.master[3].item<double>();
  const auto optimizer = make_optimizer(sgd(0, 0), weights.table.groups(), weights.mesh);
  weights.set_gradients(1);
  optimizer->step(kRate, 1);
  EXPECT_DOUBLE_EQ(weights.norm.master[3].item<double>(),
                   before - kRate * Weights::gradient_of(1, "norm", 3));
  EXPECT_TRUE(optimizer->state().empty());
}

struct EveryOptimizer : ::testing::TestWithParam<config::OptimizerKind> {
  static config::Optimizer options() {
    switch (GetParam()) {
      case config::ADAFACTOR:
        return adafactor();
      case config::SGD:
        return sgd(0.9, 0.1);
      default: {
        auto adam = factored_adam();
        adam.set_kind(GetParam());
        return adam;
      }
    }
  }
};

TEST_P(EveryOptimizer, DoesNotDependOnWhichRankHoldsWhichExperts) {
  const auto single = parallel::make_single();
  const auto expected = train(options(), *single, kSteps);
  for (const int ranks : {2, 4}) {
    parallel::ThreadGroup(ranks).run([&](parallel::Communicator& world) {
      const auto trained = train(options(), world, kSteps);
      for (const auto& [name, weights] : expected) {
        EXPECT_TRUE(at::allclose(trained.at(name), weights, 1e-12, 1e-14)) << name << ranks;
      }
    });
  }
}

TEST_P(EveryOptimizer, GoesOnBitByBitFromARestoredState) {
  const auto world = parallel::make_single();
  Weights whole(*world, at::kFloat), halves(*world, at::kFloat);
  const auto uninterrupted = make_optimizer(options(), whole.table.groups(), whole.mesh);
  auto current = make_optimizer(options(), halves.table.groups(), halves.mesh);
  for (int step = 1; step <= kSteps; ++step) {
    if (step == 4) {
      auto restored = make_optimizer(options(), halves.table.groups(), halves.mesh);
      auto to = restored->state();
      const auto from = current->state();
      ASSERT_EQ(from.size(), to.size());
      for (size_t i = 0; i < to.size(); ++i) to[i].owned[0].values.copy_(from[i].owned[0].values);
      restored->set_num_steps(current->num_steps());
      current = std::move(restored);
    }
    whole.set_gradients(step);
    uninterrupted->step(kRate, 1);
    halves.set_gradients(step);
    current->step(kRate, 1);
  }
  for (size_t i = 0; i < whole.table.groups().size(); ++i) {
    EXPECT_TRUE(at::equal(whole.table.groups()[i].master, halves.table.groups()[i].master)) << i;
  }
}

TEST_P(EveryOptimizer, KeepsNothingOfWhatDoesNotTrainAndLeavesItsBits) {
  const auto world = parallel::make_single();
  const parallel::Mesh mesh(*world, MeshShape());
  ParameterTable table;
  Parameter& weight = Scope(table).matrix("weight", {4, 9}, {});
  Parameter& frozen = Scope(table).matrix("frozen", {4, 9}, {});
  frozen.trains = false;
  table.allocate(at::kFloat);
  table.initialize(3);
  const at::Tensor weight_before = weight.master.clone(), frozen_before = frozen.master.clone();
  const auto optimizer = make_optimizer(options(), table.trained_groups(), mesh);
  weight.grad.fill_(0.1);
  optimizer->step(kRate, 1);
  EXPECT_FALSE(at::equal(weight.master, weight_before));
  EXPECT_TRUE(at::equal(frozen.master, frozen_before) && at::equal(frozen.value, frozen_before));
  for (const StateTensor& tensor : optimizer->state()) EXPECT_EQ(tensor.parameter, &weight);
}

TEST_P(EveryOptimizer, ShowsItsStateWithTheDimensionsOfItsParameter) {
  parallel::ThreadGroup(2).run([&](parallel::Communicator& world) {
    Weights weights(world);
    const auto optimizer = make_optimizer(options(), weights.table.groups(), weights.mesh);
    for (const StateTensor& tensor : optimizer->state()) {
      std::vector<int64_t> local = tensor.parameter->local_shape();
      if (tensor.missing_dim >= 0) local.erase(local.begin() + tensor.missing_dim);
      if (tensor.parameter->experts()) {
        EXPECT_EQ(local[0], kNumExperts / 2) << tensor.kind;
      }
      ASSERT_EQ(tensor.owned.size(), 1u);
      EXPECT_EQ(tensor.owned[0].range.begin, 0);
      EXPECT_EQ(tensor.owned[0].range.end, num_elements(local))
          << tensor.kind << tensor.parameter->name;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryOptimizer,
                         ::testing::Values(config::ADAMW, config::ADAFACTOR, config::SGD,
                                           config::ADAM_FACTORED_EXPERTS),
                         [](const auto& kind) { return config::OptimizerKind_Name(kind.param); });

}  // namespace
}  // namespace switchyard::optim
