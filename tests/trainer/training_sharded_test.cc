// The sharded optimizer against the plain one, through the product's own steps: nothing that is
// computed, saved or loaded may differ in one bit.

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/config/mesh_shape.h"
#include "models/inspect/census.h"
#include "parallel/thread.h"
#include "tests/core/io/temp_folder.h"
#include "tests/models/router_cases.h"
#include "tests/testing/tiny_model.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/tensors.h"
#include "trainer/training.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 3;

struct Deal {
  int ranks, expert, tensor = 1;
};
constexpr Deal kDeals[] = {{1, 1}, {2, 1}, {2, 2}, {4, 1}, {4, 2}, {4, 4}, {4, 2, 2}};

config::RunConfig dealt(config::RunConfig config, const Deal& deal, bool sharded) {
  config.set_name("tiny");
  config.mutable_train()->set_steps(kSteps);
  config.mutable_mesh()->set_tensor(deal.tensor);
  config.mutable_mesh()->set_expert(deal.expert);
  config.mutable_optimizer()->set_sharded(sharded);
  return config;
}

config::RunConfig with(config::OptimizerKind kind, config::ComputeType compute) {
  config::RunConfig config = tiny_config();
  config.mutable_runtime()->set_compute(compute);
  config::Optimizer& optimizer = *config.mutable_optimizer();
  optimizer.set_kind(kind);
  optimizer.set_clip_norm(0.5);
  if (kind == config::SGD) optimizer.set_momentum(0.9);
  if (kind == config::SGD || kind == config::ADAFACTOR) {
    optimizer.clear_beta1();
    optimizer.clear_beta2();
    optimizer.clear_eps();
  }
  if (kind != config::ADAFACTOR) return config;
  config::Adafactor& adafactor = *optimizer.mutable_adafactor();
  adafactor.set_decay_exponent(0.8);
  adafactor.set_beta2(1);
  adafactor.set_epsilon(1e-30);
  adafactor.set_update_clip(1);
  adafactor.set_scale_by_parameter(true);
  adafactor.set_least_scale(1e-3);
  adafactor.set_least_factored_dim(4);
  return config;
}

// What a training has come to. Tensors are whole.
struct Result {
  std::vector<double> losses, norms;
  std::map<std::string, at::Tensor> stored;  // masters and state
  // Values by rank and parameter, and how many numbers each rank keeps of masters and state.
  std::map<std::string, at::Tensor> values;
  std::vector<int64_t> kept;
};

void add_pieces(const std::vector<trainer::StoredTensor>& tensors, Result& result, int64_t& kept) {
  for (const trainer::StoredTensor& tensor : tensors) {
    for (const trainer::StoredBox& box : tensor.boxes) {
      at::Tensor& whole = result.stored[tensor.name];
      if (!whole.defined()) whole = at::full(tensor.shape, std::nan(""), box.memory.options());
      view_of(whole, box.box).copy_(box.memory);
      kept += box.memory.numel();
    }
  }
}

void add_rank(trainer::Training& training, int rank, Result& result) {
  int64_t& kept = result.kept[rank];
  add_pieces(trainer::stored_weights(training.instance.parameters), result, kept);
  add_pieces(trainer::stored_state(*training.optimizer), result, kept);
  for (const Parameter& p : training.instance.parameters.parameters())
    result.values[fmt::format("{} of rank {}", p.name, rank)] = p.value.detach().clone();
}

// Trains up to step `until`, from the newest step in `folder` if that is not empty, and saves
// there.
Result train(const config::RunConfig& config, const Deal& deal, int until = kSteps,
             const std::string& folder = "") {
  Result result;
  result.kept.resize(deal.ranks);
  std::mutex mutex;
  parallel::ThreadGroup(deal.ranks).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    trainer::Training training(config, trainer::open_training_data(config, world), world);
    const auto newest = folder.empty() ? std::nullopt : trainer::latest_checkpoint(folder);
    if (newest) {
      const trainer::CheckpointReader reader(*newest);
      reader.load_weights(training.instance.parameters);
      reader.load_optimizer(*training.optimizer, training.instance.parameters);
      training.state = reader.state();
    } else {
      trainer::fill_first_weights(config, training.instance.parameters);
    }
    training.begin();
    while (training.state.step < until) {
      const trainer::StepOutcome outcome = training.compute();
      training.update(outcome);
      if (world.rank() > 0) continue;
      result.losses.push_back(outcome.loss);
      result.norms.push_back(outcome.gradient_norm);
    }
    training.state.optimizer_steps = training.optimizer->num_steps();
    if (!folder.empty() && !newest)
      trainer::save_checkpoint(
          {}, folder, {config, training.instance.parameters, *training.optimizer, training.state},
          training.instance.mesh, 2);
    const std::lock_guard lock(mutex);
    add_rank(training, world.rank(), result);
  });
  return result;
}

void expect_same_stored(const Result& actual, const Result& expected) {
  ASSERT_EQ(actual.stored.size(), expected.stored.size());
  for (const auto& [name, tensor] : expected.stored)
    EXPECT_TRUE(actual.stored.at(name).equal(tensor)) << name;
}

void expect_same(const Result& actual, const Result& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  EXPECT_EQ(actual.norms, expected.norms);
  expect_same_stored(actual, expected);
  ASSERT_EQ(actual.values.size(), expected.values.size());
  for (const auto& [name, value] : expected.values)
    EXPECT_TRUE(actual.values.at(name).equal(value)) << name;
}

void expect_sharding_changes_nothing(const config::RunConfig& config, const Deal& deal) {
  SCOPED_TRACE(::testing::Message()
               << deal.ranks << " ranks, expert " << deal.expert << ", tensor " << deal.tensor);
  expect_same(train(dealt(config, deal, true), deal), train(dealt(config, deal, false), deal));
}

using Sharded = ::testing::TestWithParam<config::OptimizerKind>;

TEST_P(Sharded, TrainsBitByBitAsThePlainOptimizer) {
  for (const config::ComputeType compute : {config::BF16, config::FP32, config::FP64}) {
    SCOPED_TRACE(config::ComputeType_Name(compute));
    for (const Deal& deal : kDeals)
      expect_sharding_changes_nothing(with(GetParam(), compute), deal);
  }
}

TEST_P(Sharded, SavesWhatAnyMeshGoesOnFromBitByBit) {
  const config::RunConfig config = with(GetParam(), config::BF16);
  for (const auto& [writer, writes_sharded] :
       {std::pair(Deal{1, 1}, false), std::pair(Deal{4, 2}, true), std::pair(Deal{2, 2}, false),
        std::pair(Deal{4, 2, 2}, true)}) {
    const TempFolder folder;
    const Result written = train(dealt(config, writer, writes_sharded), writer, 2, folder.path());
    for (const auto& [reader, reads_sharded] :
         {std::pair(Deal{4, 1}, true), std::pair(Deal{4, 4}, false), std::pair(Deal{1, 1}, true),
          std::pair(Deal{4, 2, 2}, true)}) {
      SCOPED_TRACE(::testing::Message() << writer.ranks << "/" << writer.expert << " write, "
                                        << reader.ranks << "/" << reader.expert << " read");
      expect_same_stored(train(dealt(config, reader, reads_sharded), reader, 2, folder.path()),
                         written);
    }
    const Result whole = train(dealt(config, writer, writes_sharded), writer);
    expect_same_stored(train(dealt(config, writer, writes_sharded), writer, kSteps, folder.path()),
                       whole);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Sharded,
                         ::testing::Values(config::ADAMW, config::ADAFACTOR, config::SGD,
                                           config::ADAM_FACTORED_EXPERTS),
                         [](const auto& instance) {
                           return config::OptimizerKind_Name(instance.param);
                         });

// An embedding of several blocks: its gradients are scattered.
TEST(ShardedOptimizer, ScattersLargeGradientsWithoutChangingABit) {
  config::RunConfig config = with(config::ADAMW, config::BF16);
  config.mutable_model()->set_vocab_size(40'000);
  config.mutable_data()->mutable_synthetic()->set_num_tokens(1000);
  for (const Deal& deal : {Deal{2, 2}, Deal{4, 4}, Deal{4, 4, 2}})
    expect_sharding_changes_nothing(config, deal);
}

// The thresholds of strictly balanced routing are read in float32.
TEST(ShardedOptimizer, LeavesMastersWholeThatForwardReads) {
  const auto router = std::ranges::find(kRouterCases, std::string_view("StrictlyBalanced"),
                                        [](const RouterCase& one) { return one.name; });
  config::RunConfig config = config_of(*router);
  config.mutable_runtime()->set_compute(config::BF16);
  expect_sharding_changes_nothing(config, {2, 2});
}

TEST(ShardedOptimizer, RevivesDeadExpertsAlike) {
  config::RunConfig config = with(config::ADAMW, config::BF16);
  config::Moe& moe = *config.mutable_model()->mutable_moe();
  moe.set_num_experts(64);
  moe.set_top_k(1);
  moe.set_dead_expert_action(config::REINITIALIZE);
  moe.set_dead_expert_noise(0.1);
  config.mutable_log()->set_dead_after_steps(1);
  for (const Deal& deal : {Deal{2, 1}, Deal{4, 2}}) expect_sharding_changes_nothing(config, deal);
}

TEST(ShardedOptimizer, KeepsOnEachRankWhatThePlanSays) {
  const config::RunConfig config = with(config::ADAMW, config::BF16);
  for (const Deal& deal : {Deal{1, 1}, Deal{2, 1}, Deal{4, 2}, Deal{4, 4, 2}}) {
    const config::RunConfig own = dealt(config, deal, true);
    const models::Memory plan =
        models::memory_per_rank(own, config::mesh_shape(own.mesh(), own.model(), deal.ranks));
    const auto planned = static_cast<double>(plan.master_bytes + plan.moment_bytes);
    for (const int64_t kept : train(own, deal, 1).kept)
      EXPECT_NEAR(static_cast<double>(kept * sizeof(float)), planned, 0.1 * planned);
  }
}

}  // namespace
}  // namespace switchyard::testing
