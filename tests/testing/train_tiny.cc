#include "tests/testing/train_tiny.h"

#include <iterator>
#include <sstream>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/data/table.h"
#include "models/pass/stats.h"
#include "parallel/sharding.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/testing/near.h"
#include "trainer/training.h"

namespace switchyard::testing {
namespace {

// Two noisy clouds per class, one on either side of the origin: no single linear expert parts them.
trainer::RunData tiny_cases(const config::Model& model) {
  auto table = std::make_shared<Table>();
  table->num_features = model.d_model();
  table->num_classes = model.vocab_size();
  const Random random(3, Stream::kSynthetic);
  std::vector<int32_t> cases;
  for (int32_t i = 0; i < 64; ++i) {
    const int64_t label = i % table->num_classes;
    for (int64_t f = 0; f < table->num_features; ++f) {
      const double sign = (i / table->num_classes) % 2 == 0 ? 1 : -1;
      const double center = f == label % table->num_features ? 2 * sign : 0;
      table->features.push_back(static_cast<float>(center + 0.3 * random.normal(i * 8 + f)));
    }
    table->labels.push_back(static_cast<int32_t>(label));
    cases.push_back(i);
  }
  auto source = std::make_shared<CaseSource>("cases", cases, 0);
  return {case_batches(table), {{source, 1.0}}, {}};
}

trainer::RunData open_tiny_data(const config::RunConfig& config, parallel::Communicator& world) {
  return config.model().architecture() == config::LOCAL_EXPERTS
             ? tiny_cases(config.model())
             : trainer::open_training_data(config, world);
}

// The stretches of all ranks in one tensor.
at::Tensor assemble(const Parameter& parameter, std::span<const Stretch> owned,
                    const parallel::Mesh& mesh) {
  const at::Tensor local =
      parallel::gather_owned(parameter, owned, {0, parameter.local_count()}, mesh)
          .view(parameter.local_shape());
  const at::Tensor whole = at::zeros(parameter.shape, local.options());
  for (const Piece& piece : parameter.pieces())
    view_of(whole, piece.global).copy_(view_of(local, piece.local));
  const DType dtype = whole.scalar_type() == at::kDouble ? DType::kFloat64 : DType::kFloat32;
  for (const Cut& cut : parameter.cuts) {
    mesh.along(cut.axis).all_reduce(whole.mutable_data_ptr(), whole.numel(), dtype,
                                    parallel::ReduceOp::kSum, "assemble");
  }
  return whole;
}

using Tensors = std::map<std::string, at::Tensor>;

// **Collective.** Adds the tensors that other stages of a pipeline have. Those that several have
// are the same in all.
void add_of_other_stages(Tensors& tensors, const parallel::Mesh& mesh) {
  parallel::Communicator& stages = mesh.pipeline().stages();
  if (stages.size() == 1) return;
  std::string own;
  for (const auto& [name, tensor] : tensors)
    own += fmt::format("{} {}\n", name, fmt::join(tensor.sizes(), " "));
  const at::TensorOptions options = tensors.begin()->second.options();
  const auto texts = stages.all_gather_text(own, "names");
  for (int stage = 0; stage < stages.size(); ++stage) {
    std::istringstream lines(texts[stage]);
    for (std::string line, name; std::getline(lines, line);) {
      std::istringstream words(line);
      words >> name;
      const std::vector<int64_t> shape(std::istream_iterator<int64_t>(words), {});
      const at::Tensor tensor =
          stages.rank() == stage ? tensors.at(name).contiguous() : at::empty(shape, options);
      stages.broadcast(tensor.mutable_data_ptr(), static_cast<int64_t>(tensor.nbytes()), stage,
                       "tensor");
      EXPECT_TRUE(tensors.try_emplace(name, tensor).first->second.equal(tensor)) << name;
    }
  }
}

// **Collective.** Adds the step to the trace, all but its gradients.
void append(const trainer::StepOutcome& outcome, const parallel::Mesh& mesh, TrainingTrace& trace) {
  trace.losses.push_back(outcome.loss);
  trace.gradient_norms.push_back(outcome.gradient_norm);
  std::vector<models::RoutingStats>& stats = trace.routers.emplace_back(outcome.stats);
  models::reduce_stats(stats, mesh.data());
  if (stats.empty()) return;
  trace.balance.push_back(stats[0].losses[models::RouterLoss::kBalance]);
  trace.z.push_back(stats[0].losses[models::RouterLoss::kZ]);
  trace.dropped.push_back(stats[0].dropped);
}

}  // namespace

TrainingTrace train_tiny(config::RunConfig config, parallel::Communicator& world, int steps) {
  config.mutable_train()->set_steps(steps);
  trainer::Training training(config, open_tiny_data(config, world), world);
  const parallel::Mesh& mesh = training.instance.mesh;
  ParameterTable& table = training.instance.parameters;
  trainer::fill_first_weights(config, table);
  training.begin();
  TrainingTrace trace;
  for (int step = 1; step <= steps; ++step) {
    const trainer::StepOutcome outcome = training.compute();
    append(outcome, mesh, trace);
    if (step == steps) {
      for (const Parameter& p : table.parameters())
        if (p.trains) trace.gradients[p.name] = assemble(p, p.owned_gradient(), mesh);
      add_of_other_stages(trace.gradients, mesh);
    }
    training.update(outcome);
  }
  for (const Parameter& p : table.parameters()) trace.weights[p.name] = assemble(p, p.owned, mesh);
  add_of_other_stages(trace.weights, mesh);
  return trace;
}

TrainingTrace train_alone(const config::RunConfig& config, int steps) {
  const auto world = parallel::make_single();
  return train_tiny(config, *world, steps);
}

TrainingTrace train_on_threads(const config::RunConfig& config, int ranks, int steps) {
  TrainingTrace trace;
  parallel::ThreadGroup(ranks).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    TrainingTrace own = train_tiny(config, world, steps);
    if (world.rank() == 0) trace = std::move(own);
  });
  return trace;
}

void expect_same_training(const TrainingTrace& actual, const TrainingTrace& expected,
                          double tolerance) {
  const auto series = [](const std::vector<double>& values) {
    return at::tensor(values, at::kDouble);
  };
  EXPECT_TRUE(is_near(series(actual.losses), series(expected.losses), tolerance)) << "losses";
  EXPECT_TRUE(is_near(series(actual.gradient_norms), series(expected.gradient_norms), tolerance))
      << "norms";
  EXPECT_TRUE(is_near(series(actual.balance), series(expected.balance), tolerance))
      << "balance loss";
  EXPECT_TRUE(is_near(series(actual.z), series(expected.z), tolerance)) << "z loss";
  EXPECT_EQ(actual.dropped, expected.dropped);
  expect_same_parameters(actual, expected, tolerance);
}

void expect_same_parameters(const TrainingTrace& actual, const TrainingTrace& expected,
                            double tolerance) {
  ASSERT_EQ(actual.gradients.size(), expected.gradients.size());
  for (const auto& [name, gradient] : expected.gradients)
    EXPECT_TRUE(is_near(actual.gradients.at(name), gradient, tolerance)) << "gradient of " << name;
  ASSERT_EQ(actual.weights.size(), expected.weights.size());
  for (const auto& [name, weight] : expected.weights)
    EXPECT_TRUE(is_near(actual.weights.at(name), weight, tolerance)) << "weight " << name;
}

}  // namespace switchyard::testing
