// Ranks that share the matrices of layers, and those that share each expert: training, evaluation,
// generation and checkpoints are those of one rank.

#include <mutex>
#include <span>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/config/mesh_shape.h"
#include "parallel/single.h"
#include "parallel/thread.h"
#include "tests/core/io/temp_folder.h"
#include "tests/models/router_cases.h"
#include "tests/testing/near.h"
#include "tests/testing/train_tiny.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/training.h"

namespace switchyard::testing {
namespace {

constexpr int kSteps = 4;

struct Deal {
  int ranks, tensor, expert, expert_tensor = 1;
};
// Experts within a tensor group, across them, and across two such groups.
constexpr Deal kDeals[] = {{2, 2, 2}, {4, 2, 2}, {4, 2, 4}, {2, 2, 1}};
// Each expert on two ranks that see other tokens, on two that see the same, and on four of both
// kinds.
constexpr Deal kSharedExperts[] = {{4, 1, 2, 2}, {4, 2, 2, 2}, {4, 2, 1, 4}};

config::RunConfig dealt(config::RunConfig config, const Deal& deal) {
  config.mutable_mesh()->set_tensor(deal.tensor);
  if (!config.model().has_moe()) return config;
  config.mutable_mesh()->set_expert(deal.expert);
  config.mutable_mesh()->set_expert_tensor(deal.expert_tensor);
  return config;
}

void expect_trains_alike(const config::RunConfig& config, std::span<const Deal> deals) {
  const TrainingTrace expected = train_alone(config, kSteps);
  for (const Deal& deal : deals) {
    SCOPED_TRACE(::testing::Message()
                 << deal.ranks << " ranks, tensor " << deal.tensor << ", expert " << deal.expert
                 << ", expert_tensor " << deal.expert_tensor);
    expect_same_training(train_on_threads(dealt(config, deal), deal.ranks, kSteps), expected,
                         1e-10);
  }
}

struct TensorRouting : ::testing::TestWithParam<RouterCase> {};

TEST_P(TensorRouting, IsDecidedAlikeOnEveryRank) {
  const config::RunConfig config = config_of(GetParam());
  expect_trains_alike(config, std::vector{kDeals[0], kDeals[1], kSharedExperts[1]});
}

INSTANTIATE_TEST_SUITE_P(Routers, TensorRouting, ::testing::ValuesIn(kRouterCases),
                         [](const auto& instance) { return instance.param.name; });

config::RunConfig with_latent_attention() {
  config::RunConfig config = tiny_config();
  config::Attention& attention = *config.mutable_model()->mutable_attention();
  config::Latent& latent = *attention.mutable_latent();
  latent.set_q_rank(6);
  latent.set_kv_rank(5);
  latent.set_nope_dim(4);
  latent.set_rope_dim(2);
  latent.set_value_dim(3);
  attention.set_num_kv_heads(4);
  return config;
}

config::RunConfig with_shared_expert_and_dense_layer() {
  config::RunConfig config = tiny_config();
  config::Model& model = *config.mutable_model();
  model.set_num_layers(3);
  model.set_d_ff(20);
  model.set_ffn_dropout(0.2);

  model.set_tie_embeddings(false);
  model.set_ffn_bias(config::ADDITIVE);
  model.mutable_attention()->set_qkv_bias(true);
  model.mutable_attention()->set_qk_norm(config::PER_HEAD);
  model.mutable_moe()->set_first_layer(1);
  model.mutable_moe()->set_expert_dropout(0.2);
  config::SharedExpert& shared = *model.mutable_moe()->mutable_shared_expert();
  shared.set_count(2);
  shared.set_d_ff(6);
  shared.set_ffn(config::SWIGLU);
  shared.set_sigmoid_gate(true);
  return config;
}

config::RunConfig with_learned_positions() {
  config::RunConfig config = tiny_config();
  config::Attention& attention = *config.mutable_model()->mutable_attention();
  attention.set_position(config::LEARNED_POSITIONS);
  attention.set_max_positions(12);
  return config;
}

config::RunConfig with_relative_bias() {
  config::RunConfig config = tiny_config();
  config::Attention& attention = *config.mutable_model()->mutable_attention();
  attention.set_position(config::RELATIVE_BIAS);
  attention.mutable_relative_bias()->set_num_buckets(8);
  attention.mutable_relative_bias()->set_max_distance(16);
  return config;
}

// 96 tokens: groups of 16, and five groups a multiple of the experts, of which the last has
// padding.
config::RunConfig with_token_groups(config::GroupRule rule, int num_experts) {
  config::RunConfig config = tiny_config();
  config::Moe& moe = *config.mutable_model()->mutable_moe();
  moe.set_num_experts(num_experts);
  moe.mutable_balance_loss()->set_statistics(config::PER_GROUP);
  config::Capacity& capacity = *moe.mutable_capacity();
  capacity.set_policy(config::BY_POSITION);
  capacity.set_train_factor(1);
  capacity.set_counts_k(true);
  capacity.set_group_rule(rule);
  capacity.set_max_group_tokens(16);
  return config;
}

TEST(TensorParallel, TrainsAlikeInGroupsOfTokens) {
  expect_trains_alike(with_token_groups(config::MESH_TENSORFLOW, 4), std::vector{kDeals[0]});
  expect_trains_alike(with_token_groups(config::FLAXFORMER, 5), std::vector<Deal>{{2, 2, 1}});
  expect_trains_alike(with_token_groups(config::FLAXFORMER, 10), std::vector<Deal>{{2, 2, 2}});
}

TEST(TensorParallel, TrainsEveryKindOfLayerAlike) {
  expect_trains_alike(with_latent_attention(), kDeals);
  expect_trains_alike(with_shared_expert_and_dense_layer(), kDeals);
  expect_trains_alike(with_learned_positions(), std::vector{kDeals[0]});
  expect_trains_alike(with_relative_bias(), std::vector{kDeals[0]});
  expect_trains_alike(tiny_encoder_decoder(), kDeals);
}

config::RunConfig with_attentions_experts() {
  config::RunConfig config = tiny_config();
  config.mutable_model()->mutable_attention()->set_switch_projections(true);
  return config;
}

// Gated experts with a bias and dropout, ungated ones with factors, matrices of attention, stacks
// of matrices with two hidden layers between them; an encoder's and a decoder's.
TEST(ExpertTensorParallel, TrainsEveryKindOfExpertAlike) {
  expect_trains_alike(with_shared_expert_and_dense_layer(), kSharedExperts);
  expect_trains_alike(tiny_expert_forms(config::DENSE_AFTER), kSharedExperts);
  expect_trains_alike(with_attentions_experts(), kSharedExperts);
  config::RunConfig deep = tiny_config();
  deep.mutable_model()->mutable_moe()->set_hidden_layers(3);
  deep.mutable_model()->mutable_moe()->set_ffn(config::RELU);
  expect_trains_alike(deep, kSharedExperts);
  expect_trains_alike(tiny_encoder_decoder(), std::vector{kSharedExperts[1]});
}

config::RunConfig with_factored_moments() {
  config::RunConfig config = with_shared_expert_and_dense_layer();
  config::Optimizer& optimizer = *config.mutable_optimizer();
  optimizer.set_kind(config::ADAFACTOR);
  optimizer.clear_beta1();
  optimizer.clear_beta2();
  optimizer.clear_eps();
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

// Rows and columns of a factored matrix lie on several ranks.
TEST(TensorParallel, TrainsAlikeWithFactoredMoments) {
  config::RunConfig config = with_factored_moments();
  expect_trains_alike(config, std::vector{kDeals[0], kDeals[1], kSharedExperts[1]});
  config = with_shared_expert_and_dense_layer();
  config.mutable_optimizer()->set_kind(config::ADAM_FACTORED_EXPERTS);
  expect_trains_alike(config, kSharedExperts);
}

TEST(TensorParallel, TrainsAlikeWithRecompute) {
  for (const Deal& deal : {kDeals[1], kSharedExperts[1]}) {
    config::RunConfig config = dealt(with_shared_expert_and_dense_layer(), deal);
    const TrainingTrace plain = train_on_threads(config, 4, kSteps);
    config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
    expect_same_training(train_on_threads(config, 4, kSteps), plain, 0);
  }
}

TEST(TensorParallel, TrainsAlikeOnFourRanksThatShareEverything) {
  config::RunConfig config = tiny_config();
  config.mutable_model()->mutable_attention()->set_num_kv_heads(4);
  expect_trains_alike(config, std::vector<Deal>{{4, 4, 4}, {4, 4, 1}, {4, 4, 1, 4}});
}

// Queries of 4 heads, and fewer of keys and values than ranks: each head lies on two ranks, or one
// on four.
std::vector<config::RunConfig> with_few_kv_heads() {
  config::RunConfig bare = tiny_config();
  config::RunConfig rich = with_shared_expert_and_dense_layer(), experts = tiny_config();
  rich.mutable_model()->mutable_attention()->set_qkv_clip(0.2);
  experts.mutable_model()->mutable_attention()->set_switch_projections(true);
  return {bare, rich, experts, with_relative_bias(), tiny_encoder_decoder()};
}

TEST(TensorParallel, TrainsAlikeWithFewerKeysAndValuesThanRanks) {
  for (config::RunConfig config : with_few_kv_heads()) {
    SCOPED_TRACE(config.ShortDebugString());
    expect_trains_alike(config, std::vector<Deal>{{4, 4, 2}});
    config.mutable_model()->mutable_attention()->set_num_kv_heads(1);
    expect_trains_alike(config, std::vector<Deal>{{4, 4, 2}, {4, 2, 2}});
  }
}

TEST(TensorParallel, TrainsAlikeWithNormsOverAllHeads) {
  config::RunConfig config = tiny_config();
  config::Attention& attention = *config.mutable_model()->mutable_attention();
  attention.set_qk_norm(config::FULL_WIDTH);
  attention.set_qkv_bias(true);
  expect_trains_alike(config, std::vector<Deal>{{2, 2, 2}, {4, 4, 1}});
  config.mutable_model()->set_norm_cast(config::CAST_THEN_SCALE);
  config.mutable_runtime()->set_compute(config::FP32);
  config.mutable_optimizer()->set_kind(config::SGD);
  config.mutable_optimizer()->set_lr(1e-3);
  expect_same_training(train_on_threads(dealt(config, {4, 4, 1}), 4, 1), train_alone(config, 1),
                       1e-5);
}

using Weights = std::map<std::string, at::Tensor>;

// Adds the pieces that a rank holds to whole tensors.
void add_pieces(const ParameterTable& table, Weights& whole) {
  for (const Parameter& p : table.parameters()) {
    at::Tensor& tensor = whole[p.name];
    if (!tensor.defined()) tensor = at::zeros(p.shape, p.master.options());
    for (const Piece& piece : p.pieces())
      view_of(tensor, piece.global).copy_(view_of(p.master, piece.local));
  }
}

// Trains up to step `until` from the checkpoint in `folder`, or from scratch where there is none;
// saves there.
Weights train_and_save(const config::RunConfig& config, const Deal& deal, const std::string& folder,
                       int until) {
  Weights whole;
  std::mutex mutex;
  parallel::ThreadGroup(deal.ranks).run([&](parallel::Communicator& world) {
    at::set_num_threads(1);
    config::RunConfig own = dealt(config, deal);
    own.set_name("tiny");
    own.mutable_train()->set_steps(kSteps);
    trainer::Training training(own, trainer::open_training_data(own, world), world);
    if (const auto newest = trainer::latest_checkpoint(folder)) {
      const trainer::CheckpointReader reader(*newest);
      reader.load_weights(training.instance.parameters);
      reader.load_optimizer(*training.optimizer, training.instance.parameters);
      training.state = reader.state();
    } else {
      trainer::fill_first_weights(own, training.instance.parameters);
    }
    training.begin();
    while (training.state.step < until) training.update(training.compute());
    training.state.optimizer_steps = training.optimizer->num_steps();
    trainer::save_checkpoint(
        {}, folder, {own, training.instance.parameters, *training.optimizer, training.state},
        training.instance.mesh, 2);
    const std::lock_guard lock(mutex);
    add_pieces(training.instance.parameters, whole);
  });
  return whole;
}

TEST(TensorParallel, SavesWhatAnyMeshGoesOnFrom) {
  config::RunConfig one_kv_head = with_factored_moments();
  one_kv_head.mutable_model()->mutable_attention()->set_num_kv_heads(1);
  for (const auto& config : {with_shared_expert_and_dense_layer(), one_kv_head}) {
    const Weights expected = train_alone(config, kSteps).weights;
    for (const auto& [writer, reader] :
         {std::pair(Deal{1, 1, 1}, Deal{4, 2, 4}), std::pair(Deal{2, 2, 2}, Deal{1, 1, 1}),
          std::pair(Deal{2, 2, 2}, Deal{4, 2, 2}), std::pair(Deal{2, 2, 1}, Deal{2, 1, 2}),
          std::pair(kSharedExperts[0], Deal{1, 1, 1}), std::pair(Deal{2, 2, 2}, kSharedExperts[1]),
          std::pair(kSharedExperts[2], kSharedExperts[0])}) {
      const TempFolder folder;
      const Weights written = train_and_save(config, writer, folder.path(), 2);
      const Weights read = train_and_save(config, reader, folder.path(), 2);
      const Weights trained = train_and_save(config, reader, folder.path(), kSteps);
      for (const auto& [name, weight] : expected) {
        EXPECT_TRUE(read.at(name).equal(written.at(name))) << name;
        EXPECT_TRUE(is_near(trained.at(name), weight, 1e-10)) << name;
      }
    }
  }
}

// The losses of a micro-batch, and the logits of a text that is written token by token.
std::vector<at::Tensor> evaluate_and_write(const config::RunConfig& config,
                                           parallel::Communicator& world) {
  const at::NoGradGuard no_grad;
  trainer::ModelInstance instance(config, world);
  instance.parameters.initialize(3);
  const at::Tensor tokens = at::arange(24, at::kLong).view({2, 12}).mul(5).remainder(32);
  models::TokenBatch batch;
  batch.tokens_BS = tokens;
  batch.targets_BS = tokens.roll(-1, 1);
  batch.documents_BS = at::zeros({2, 12}, at::kInt);
  models::StepContext context;
  context.group_tokens = 12;
  std::vector<at::Tensor> results = {instance.model.losses(batch, context)};
  models::TextState state;
  context.generating = true;
  for (const int64_t length : {5, 1, 1}) {
    const at::Tensor next = tokens.narrow(1, state.seen, length).narrow(0, 0, 1);
    context.group_tokens = length;
    results.push_back(instance.model.text().next_logits(next, context, state));
  }
  return results;
}

TEST(TensorParallel, EvaluatesAndWritesAlike) {
  config::RunConfig one_kv_head = tiny_config();
  one_kv_head.mutable_model()->mutable_attention()->set_num_kv_heads(1);
  for (const config::RunConfig& config : {tiny_config(), with_latent_attention(), one_kv_head}) {
    const auto one = parallel::make_single();
    const std::vector<at::Tensor> expected = evaluate_and_write(config, *one);
    for (const Deal& deal : {Deal{2, 2, 2}, Deal{2, 2, 1, 2}}) {
      parallel::ThreadGroup(2).run([&](parallel::Communicator& world) {
        at::set_num_threads(1);
        const auto actual = evaluate_and_write(dealt(config, deal), world);
        for (size_t i = 0; i < expected.size(); ++i)
          EXPECT_TRUE(is_near(actual[i], expected[i], 1e-10)) << i;
      });
    }
  }
}

TEST(TensorParallel, IsRefusedByNameForWhatDoesNotDivide) {
  config::RunConfig config = tiny_config();
  config.mutable_mesh()->set_tensor(3);
  EXPECT_THAT(config::mesh_problems(config.mesh(), config.model(), 3),
              ::testing::ElementsAre(::testing::HasSubstr("model.attention.num_heads (4)"),
                                     ::testing::HasSubstr("model.vocab_size (32)"),
                                     ::testing::HasSubstr("model.attention.num_kv_heads (2)")));
  config.mutable_model()->mutable_attention()->set_num_kv_heads(1);
  config.mutable_model()->mutable_attention()->set_head_dim(6);
  config.mutable_mesh()->set_tensor(4);
  EXPECT_THAT(config::mesh_problems(config.mesh(), config.model(), 4),
              ::testing::ElementsAre(::testing::HasSubstr("model.attention.head_dim (6)")));
  for (const config::RunConfig& other : {tiny_lstm_lm(), tiny_local_experts()}) {
    EXPECT_THAT(config::mesh_problems(config.mesh(), other.model(), 4),
                ::testing::ElementsAre(
                    ::testing::HasSubstr(config::Architecture_Name(other.model().architecture()))));
  }
}

}  // namespace
}  // namespace switchyard::testing
