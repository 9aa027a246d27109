#include "models/inspect/stages.h"

#include <gmock/gmock.h>

#include "core/config/reader.h"
#include "models/inspect/cost.h"
#include "models/inspect/memory.h"

namespace switchyard::models {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

config::RunConfig run_of(int vocabulary, const std::string& model) {
  return config::load_config_text(
      "model { num_layers: 8 d_model: 16 d_ff: 32 attention { num_heads: 4 } vocab_size: " +
          std::to_string(vocabulary) + " " + model +
          " } data { sequence_length: 16 synthetic {} } train { steps: 1 global_batch: 8 }",
      "stages_test");
}

std::vector<int64_t> sizes(const config::RunConfig& config, int stages) {
  std::vector<int64_t> sizes;
  int64_t end = 0;
  for (const Slice& held : stage_layers(config, stages)) {
    EXPECT_EQ(held.begin, end);
    end = held.end;
    sizes.push_back(held.size());
  }
  EXPECT_EQ(end, config.model().num_layers());
  return sizes;
}

TEST(StageLayers, AreAsManyOnEachStageWhereLayersAreAlike) {
  const config::RunConfig config = run_of(4, "tie_embeddings: false");
  EXPECT_THAT(sizes(config, 1), ElementsAre(8));
  EXPECT_THAT(sizes(config, 2), ElementsAre(4, 4));
  EXPECT_THAT(sizes(config, 8), ElementsAre(1, 1, 1, 1, 1, 1, 1, 1));
}

TEST(StageLayers, AreFewerWhereTheLogitsAreComputed) {
  for (const char* tied : {"true", "false"})
    EXPECT_THAT(sizes(run_of(1024, std::string("tie_embeddings: ") + tied), 2), ElementsAre(7, 1));
}

TEST(StageLayers, AreFewerWhereExpertsAre) {
  const config::RunConfig config =
      run_of(4, "moe { num_experts: 4 top_k: 2 d_ff: 128 first_layer: 4 every_n_layers: 1 }");
  const std::vector<int64_t> layers = sizes(config, 2);
  EXPECT_GT(layers[0], layers[1]);
}

// Adds up what the stages do, and compares with another way to count it.
TEST(StageLayers, ShareOutAllOperationsOfTheModel) {
  for (const char* model : {"", "tie_embeddings: false", "mtp { weight: 0.1 }"}) {
    const config::RunConfig config = run_of(32, model);
    const SequenceLengths lengths = sequence_lengths(config);
    double sum = 0;
    for (const Slice& held : stage_layers(config, 3))
      sum += forward_flops(config.model(), lengths, held);
    EXPECT_DOUBLE_EQ(3 * sum, flops_per_token(config.model(), lengths)) << model;
  }
}

TEST(StageLayers, AreDescribedWithTheirShareOfTheWork) {
  EXPECT_EQ(describe_stages(run_of(32, ""), 1), "");
  EXPECT_THAT(describe_stages(run_of(4, "tie_embeddings: false"), 2),
              AllOf(HasSubstr("stage 1: layers 4 to 7, 50 % of the operations"),
                    HasSubstr("1 micro-batch(es): stages wait for 50 % of a step")));
}

// A stage holds its layers alone, and keeps the activations of as many micro-batches as there are
// stages from it on.
TEST(MemoryPlan, IsOfTheStageThatNeedsMost) {
  config::RunConfig config = run_of(4, "tie_embeddings: false");
  config.mutable_train()->set_accumulation(4);
  const MemoryPlan whole = memory_plan(config, MeshShape());
  const MemoryPlan staged = memory_plan(config, MeshShape({.pipeline = 4}));
  EXPECT_LT(staged.parameters.parameters, whole.parameters.parameters / 3);
  EXPECT_NEAR(staged.activations / whole.activations, 1.0, 0.15);
  config.mutable_train()->set_accumulation(1);
  EXPECT_LT(memory_plan(config, MeshShape({.pipeline = 4})).activations,
            memory_plan(config, MeshShape()).activations / 2);
}

}  // namespace
}  // namespace switchyard::models
