#include "trainer/evaluate.h"

#include <cstdlib>
#include <numeric>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/config/reader.h"
#include "core/data/synthetic_source.h"
#include "core/tensor/aten.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "parallel/thread.h"

namespace switchyard::trainer {
namespace {

constexpr int64_t kTokens = 300,
                  kLength = 32;  // the last of 10 rows has 11 tokens and their targets

// In float64, with experts that overflow in evaluation; a routing group of `sequences` rows.
config::RunConfig config_of(int sequences, const std::string& policy) {
  return config::load_config(std::string(std::getenv("SY_TEST_ROOT")) + "/configs/debug.textproto",
                             {"runtime.compute=FP64", "model.init_std=0.3",
                              "model.moe.allow_future=true", "model.moe.capacity.policy=" + policy,
                              "model.moe.capacity.eval_factor=0.8", "model.moe.capacity.minimum=0",
                              "model.moe.capacity.group_sequences=" + std::to_string(sequences)});
}

std::shared_ptr<const TokenSource> source_of(int64_t tokens) {
  return std::make_shared<SyntheticSource>(tokens, 256, 5);
}

SourceResult evaluated(const config::RunConfig& config, int64_t tokens, int ranks) {
  const RunData data{next_token_batches(kLength), {}, {{"text", source_of(tokens)}}};
  SourceResult result;
  parallel::ThreadGroup(ranks).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    ModelInstance instance(config, world);
    instance.parameters.initialize(3);
    const auto results = evaluate(config, instance, data, /*tokenizer=*/nullptr, 0);
    if (world.rank() == 0) result = results.at(0);
  });
  return result;
}

struct EvaluatePadding : ::testing::TestWithParam<std::string> {};

TEST_P(EvaluatePadding, IsNeitherRoutedNorCountedOnAnyNumberOfRanks) {
  const config::RunConfig config = config_of(2, GetParam());
  const SourceResult alone = evaluated(config, kTokens, 1);
  EXPECT_EQ(alone.targets, kTokens - 1);
  for (const models::RoutingStats& router : alone.layers) {
    EXPECT_EQ(router.tokens, kTokens - 1);
    EXPECT_EQ(std::accumulate(router.load.begin(), router.load.end(), int64_t{0}),
              2 * (kTokens - 1));
    EXPECT_GT(router.dropped, 0);
  }
  for (const int ranks : {2, 4}) {
    const SourceResult several = evaluated(config, kTokens, ranks);
    EXPECT_NEAR(several.loss, alone.loss, 1e-10);
    for (size_t i = 0; i < alone.layers.size(); ++i) {
      EXPECT_EQ(several.layers[i].load, alone.layers[i].load);
      EXPECT_EQ(several.layers[i].dropped, alone.layers[i].dropped);
    }
  }
}

// The last row by itself and as long as its tokens, which leaves the whole rows before it.
TEST_P(EvaluatePadding, LeavesTheLastRowTheLossThatItHasWithout) {
  constexpr int64_t kLast = kTokens - 1 - 9 * kLength;
  const config::RunConfig config = config_of(1, GetParam());
  const auto world = parallel::make_single();
  ModelInstance instance(config, *world);
  instance.parameters.initialize(3);
  Batch last = make_batch(9, 1, kLast);
  fill_row(last, 0, *source_of(kTokens), 9 * kLength);
  models::StepContext context;
  context.key.seed = config.seed();
  context.group_tokens = kLast;
  const at::NoGradGuard no_grad;
  const double sum = instance.model.losses(to_tensors(last), context).sum().item<double>();
  const SourceResult all = evaluated(config, kTokens, 1), whole = evaluated(config, 289, 1);
  EXPECT_EQ(whole.targets, 9 * kLength);
  EXPECT_NEAR(all.loss * (kTokens - 1), whole.loss * 9 * kLength + sum, 1e-9);
}

INSTANTIATE_TEST_SUITE_P(Policies, EvaluatePadding,
                         ::testing::Values("BY_POSITION", "BATCH_PRIORITIZED", "BY_PROBABILITY"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace switchyard::trainer
