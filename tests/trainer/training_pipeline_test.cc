// Stages that hold some layers each: training, evaluation, generation and checkpoints are those of
// one rank.

#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/config/mesh_shape.h"
#include "core/data/synthetic_source.h"
#include "core/tensor/aten.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/core/io/temp_folder.h"
#include "tests/models/router_cases.h"
#include "tests/testing/near.h"
#include "tests/testing/train_tiny.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/tensors.h"
#include "trainer/evaluate.h"
#include "trainer/generate.h"
#include "trainer/training.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 4;

struct Deal {
  int ranks, pipeline, tensor = 1, expert = 1;
};
void PrintTo(const Deal& deal, std::ostream* out) {
  *out << deal.ranks << " ranks, pipeline " << deal.pipeline << ", tensor " << deal.tensor
       << ", expert " << deal.expert;
}

config::RunConfig dealt(config::RunConfig config, const Deal& deal) {
  config.mutable_mesh()->set_pipeline(deal.pipeline);
  config.mutable_mesh()->set_tensor(deal.tensor);
  if (config.model().has_moe()) config.mutable_mesh()->set_expert(deal.expert);
  return config;
}

void expect_trains_alike(const config::RunConfig& config, const std::vector<Deal>& deals,
                         double tolerance = 1e-10) {
  const TrainingTrace expected = train_alone(config, kSteps);
  for (const Deal& deal : deals) {
    SCOPED_TRACE(::testing::PrintToString(deal));
    expect_same_training(train_on_threads(dealt(config, deal), deal.ranks, kSteps), expected,
                         tolerance);
  }
}

// Five layers, of which the second and the fourth have experts, in micro-batches.
config::RunConfig tiny_tower(bool ties, int accumulation) {
  config::RunConfig config = tiny_config();
  config::Model& model = *config.mutable_model();
  model.set_num_layers(5);
  model.set_d_ff(20);
  model.set_tie_embeddings(ties);
  model.mutable_moe()->set_first_layer(1);
  model.mutable_moe()->set_every_n_layers(2);
  config.mutable_train()->set_accumulation(accumulation);
  return config;
}

TEST(Pipeline, TrainsADenseModelAlike) {
  for (const int accumulation : {1, 4}) {
    config::RunConfig config = tiny_tower(/*ties=*/false, accumulation);
    config.mutable_model()->clear_moe();
    expect_trains_alike(config, {{2, 2}, {4, 4}, {4, 2}, {4, 2, 2}, {8, 2, 2}});
  }
}

TEST(Pipeline, TrainsExpertsAlike) {
  for (const int accumulation : {1, 4})
    expect_trains_alike(tiny_tower(/*ties=*/false, accumulation),
                        {{2, 2}, {4, 4}, {4, 2, 1, 2}, {8, 2, 2, 4}, {8, 4, 2, 2}});
}

TEST(Pipeline, SumsTheGradientsOfATableThatBothEndsHold) {
  expect_trains_alike(tiny_tower(/*ties=*/true, 4),
                      {{2, 2}, {3, 3}, {4, 4}, {4, 2, 2, 2}, {8, 4, 1, 2}});
}

TEST(Pipeline, TrainsMultiTokenPredictionAlike) {
  for (const bool ties : {false, true}) {
    config::RunConfig config = tiny_tower(ties, 2);
    config.mutable_model()->mutable_mtp()->set_weight(0.3);
    config.mutable_model()->set_output_z_loss_coefficient(0.01);
    expect_trains_alike(config, {{2, 2}, {4, 4}, {4, 2, 2, 2}});
  }
}

// A table that all stages hold, beside one that both ends hold.
TEST(Pipeline, TrainsARelativeBiasOfAllLayersAlike) {
  config::RunConfig config = tiny_tower(/*ties=*/true, 2);
  config.mutable_optimizer()->set_decay_embeddings(false);
  config::Attention& attention = *config.mutable_model()->mutable_attention();
  attention.set_position(config::RELATIVE_BIAS);
  attention.mutable_relative_bias()->set_num_buckets(8);
  attention.mutable_relative_bias()->set_max_distance(16);
  attention.mutable_relative_bias()->set_shared(true);
  expect_trains_alike(config, {{3, 3}, {4, 2, 2}});
}

TEST(Pipeline, TrainsLearnedPositionsAndAttentionsExpertsAlike) {
  config::RunConfig config = tiny_tower(/*ties=*/false, 2);
  config::Attention& attention = *config.mutable_model()->mutable_attention();
  attention.set_position(config::LEARNED_POSITIONS);
  attention.set_max_positions(12);
  attention.set_switch_projections(true);
  attention.set_dropout(0.2);
  config.mutable_model()->set_dropout(0.1);
  expect_trains_alike(config, {{2, 2}, {4, 4}});
}

TEST(Pipeline, TrainsAlikeWithRecompute) {
  config::RunConfig config = tiny_tower(/*ties=*/true, 4);
  const TrainingTrace plain = train_on_threads(dealt(config, {4, 4}), 4, kSteps);
  config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
  expect_same_training(train_on_threads(dealt(config, {4, 4}), 4, kSteps), plain, 0);
}

// AdamW's first step has the size of the gradient's sign, and so of the rounding of small ones.
TEST(Pipeline, TrainsAlikeInNarrowerTypes) {
  config::RunConfig config = tiny_tower(/*ties=*/true, 2);
  config.mutable_optimizer()->set_kind(config::SGD);
  for (const auto& [type, tolerance] : {std::pair(config::FP32, 1e-5), {config::BF16, 0.05}}) {
    config.mutable_runtime()->set_compute(type);
    const TrainingTrace expected = train_alone(config, 1);
    const TrainingTrace actual = train_on_threads(dealt(config, {4, 4}), 4, 1);
    EXPECT_NEAR(actual.losses[0], expected.losses[0], tolerance * expected.losses[0]);
    EXPECT_NEAR(actual.gradient_norms[0], expected.gradient_norms[0],
                tolerance * expected.gradient_norms[0]);
    if (type == config::FP32) expect_same_training(actual, expected, tolerance);
  }
}

struct PipelineRouting : ::testing::TestWithParam<RouterCase> {};

TEST_P(PipelineRouting, IsTheSame) {
  const config::RunConfig config = config_of(GetParam());
  if (config.model().moe().layer_aggregation() == config::POOLED_LAYERS) return;  // is refused
  expect_trains_alike(config, {{4, 2, 1, 2}});
}

INSTANTIATE_TEST_SUITE_P(Routers, PipelineRouting, ::testing::ValuesIn(kRouterCases),
                         [](const auto& instance) { return instance.param.name; });

// Experts that no token reaches are revived by the stage that has them, with the noise of one rank.
TEST(Pipeline, RevivesDeadExpertsAlike) {
  for (const auto action : {config::REINITIALIZE, config::RAISE_BIAS}) {
    config::RunConfig config = tiny_tower(/*ties=*/true, 2);
    config::Moe& moe = *config.mutable_model()->mutable_moe();
    moe.set_num_experts(64);
    moe.set_dead_expert_action(action);
    moe.set_dead_expert_noise(0.01);
    moe.mutable_router()->set_selection_bias(action == config::RAISE_BIAS);
    moe.mutable_router()->set_bias_update_rate(0.01);
    config.mutable_log()->set_dead_after_steps(1);
    expect_trains_alike(config, {{2, 2}, {4, 2, 1, 2}});
  }
}

// What a rank holds of weights and moments after some steps, by name; copies are equal.
using Tensors = std::map<std::string, at::Tensor>;

void add_boxes(const std::vector<trainer::StoredTensor>& stored, Tensors& whole) {
  for (const trainer::StoredTensor& tensor : stored) {
    at::Tensor& all = whole[tensor.name];
    if (!all.defined()) all = at::zeros(tensor.shape, tensor.boxes.at(0).memory.options());
    for (const trainer::StoredBox& held : tensor.boxes) view_of(all, held.box).copy_(held.memory);
  }
}

// Trains up to step `until` from the checkpoint in `folder`, or from scratch where there is none;
// saves there.
Tensors train_and_save(const config::RunConfig& config, const Deal& deal, const std::string& folder,
                       int until) {
  Tensors whole;
  std::mutex mutex;
  parallel::ThreadGroup(deal.ranks).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    config::RunConfig own = dealt(config, deal);
    own.set_name("tiny");
    own.mutable_train()->set_steps(kSteps);
    trainer::Training training(own, trainer::open_training_data(own, world), world);
    ParameterTable& table = training.instance.parameters;
    if (const auto newest = trainer::latest_checkpoint(folder)) {
      const trainer::CheckpointReader reader(*newest);
      reader.load_weights(table);
      reader.load_optimizer(*training.optimizer, table);
      training.state = reader.state();
    } else {
      trainer::fill_first_weights(own, table);
    }
    training.begin();
    while (training.state.step < until) training.update(training.compute());
    training.state.optimizer_steps = training.optimizer->num_steps();
    trainer::save_checkpoint({}, folder, {own, table, *training.optimizer, training.state},
                             training.instance.mesh, 2);
    const std::lock_guard lock(mutex);
    add_boxes(trainer::stored_weights(table), whole);
    add_boxes(trainer::stored_state(*training.optimizer), whole);
  });
  return whole;
}

TEST(Pipeline, SavesWhatAnyMeshGoesOnFrom) {
  config::RunConfig config = tiny_tower(/*ties=*/true, 2);
  config.mutable_model()->mutable_mtp()->set_weight(0.3);
  const TrainingTrace expected = train_alone(config, kSteps);
  for (const auto& [writer, reader] :
       {std::pair(Deal{2, 2}, Deal{1, 1}), std::pair(Deal{1, 1}, Deal{4, 4}),
        std::pair(Deal{4, 4}, Deal{4, 2, 2, 2})}) {
    const TempFolder folder;
    const Tensors written = train_and_save(config, writer, folder.path(), 2);
    const Tensors read = train_and_save(config, reader, folder.path(), 2);
    EXPECT_EQ(read.size(), written.size());
    for (const auto& [name, tensor] : written) EXPECT_TRUE(read.at(name).equal(tensor)) << name;
    const Tensors trained = train_and_save(config, reader, folder.path(), kSteps);
    for (const auto& [name, weight] : expected.weights)
      EXPECT_TRUE(is_near(trained.at(name), weight, 1e-10)) << name;
  }
}

// Strictness is that of one rank: no stage passes over a tensor that no stage has.
TEST(Pipeline, RefusesACheckpointOfMoreLayers) {
  config::RunConfig config = tiny_tower(/*ties=*/true, 2);
  const TempFolder folder;
  train_and_save(config, {2, 2}, folder.path(), 1);
  config.mutable_model()->set_num_layers(4);
  EXPECT_THAT(
      [&] {
        train_and_save(config, {2, 2}, folder.path(), 1);
      },
      ::testing::ThrowsMessage<CheckpointError>(
          ::testing::HasSubstr("unexpected tensor \"layers.4.")));
}

std::vector<trainer::SourceResult> evaluated(const config::RunConfig& config, const Deal& deal) {
  const trainer::RunData data{
      next_token_batches(12), {}, {{"text", std::make_shared<SyntheticSource>(300, 32, 5)}}};
  std::vector<trainer::SourceResult> results;
  parallel::ThreadGroup(deal.ranks).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    trainer::ModelInstance instance(dealt(config, deal), world);
    instance.parameters.initialize(3);
    auto own = trainer::evaluate(config, instance, data, /*tokenizer=*/nullptr, 0);
    if (world.rank() == 0) results = std::move(own);
  });
  return results;
}

TEST(Pipeline, EvaluatesAlike) {
  const config::RunConfig config = tiny_tower(/*ties=*/true, 1);
  const trainer::SourceResult alone = evaluated(config, {1, 1}).at(0);
  for (const Deal& deal : {Deal{2, 2}, Deal{4, 4}, Deal{8, 2, 2, 2}}) {
    const trainer::SourceResult staged = evaluated(config, deal).at(0);
    EXPECT_NEAR(staged.loss, alone.loss, 1e-10);
    EXPECT_EQ(staged.targets, alone.targets);
    ASSERT_EQ(staged.layers.size(), alone.layers.size());
    for (size_t i = 0; i < alone.layers.size(); ++i) {
      EXPECT_EQ(staged.layers[i].load, alone.layers[i].load);
      EXPECT_NEAR(staged.layers[i].router_entropy, alone.layers[i].router_entropy, 1e-8);
    }
  }
}

// Texts of every rank. The prompt is longer than a token, so that a pass has several rows.
std::vector<std::string> written(const config::RunConfig& config, const Deal& deal) {
  const auto tokenizer = load_tokenizer("bytes");
  std::vector<std::string> texts(deal.ranks);
  parallel::ThreadGroup(deal.ranks).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    trainer::ModelInstance instance(dealt(config, deal), world);
    instance.parameters.initialize(3);
    texts[world.rank()] = trainer::generate(instance, *tokenizer, "The ",
                                            {.max_tokens = 12, .temperature = 0}, /*on_text=*/{});
  });
  return texts;
}

TEST(Pipeline, WritesAlike) {
  config::RunConfig config = tiny_tower(/*ties=*/true, 1);
  config.mutable_model()->set_vocab_size(258);
  const std::string alone = written(config, {1, 1}).at(0);
  EXPECT_FALSE(alone.empty());
  for (const Deal& deal : {Deal{2, 2}, Deal{4, 4}, Deal{4, 2, 2, 2}})
    EXPECT_THAT(written(config, deal), ::testing::Each(alone));
}

TEST(Pipeline, IsRefusedByNameWhereLayersCannotBeDealt) {
  config::RunConfig config = tiny_tower(/*ties=*/true, 1);
  config.mutable_mesh()->set_pipeline(6);
  config.mutable_model()->mutable_moe()->set_layer_aggregation(config::POOLED_LAYERS);
  EXPECT_THAT(config::mesh_problems(config.mesh(), config.model(), 6),
              ::testing::ElementsAre(::testing::HasSubstr("POOLED_LAYERS"),
                                     ::testing::HasSubstr("at most model.num_layers (5)")));
  config.mutable_mesh()->set_pipeline(2);
  for (const config::RunConfig& other :
       {tiny_lstm_lm(), tiny_local_experts(), tiny_encoder_decoder()})
    EXPECT_THAT(config::mesh_problems(config.mesh(), other.model(), 2),
                ::testing::Contains(
                    ::testing::HasSubstr(config::Architecture_Name(other.model().architecture()))));
}

}  // namespace
}  // namespace switchyard::testing
