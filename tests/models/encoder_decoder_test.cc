#include "models/encoder_decoder.h"

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "models/model.h"
#include "models/pass/stats.h"
#include "parallel/single.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;

constexpr int64_t kSource = 9, kTarget = 6, kVocab = 32;

config::Model tiny() {
  config::Model model = switchyard::testing::tiny_encoder_decoder().model();
  model.set_dropout(0);
  return model;
}

config::Model with_switch_attention() {
  config::Model model = tiny();
  model.mutable_attention()->set_switch_projections(true);
  return model;
}

struct Instance {
  explicit Instance(const config::Model& config)
      : world(parallel::make_single()),
        mesh(*world, MeshShape()),
        model(Scope(table), config, mesh) {
    table.allocate(at::kDouble);
    table.initialize(5);
  }

  at::Tensor losses(const TokenBatch& batch) const {
    StepContext context;
    context.group_tokens = kTarget;
    return model.losses(batch, context).view(batch.tokens_BS.sizes());
  }

  std::unique_ptr<parallel::Communicator> world;
  parallel::Mesh mesh;
  ParameterTable table;
  Model model;
};

at::Tensor tokens(int64_t rows, int64_t length, int64_t seed) {
  return (at::arange(rows * length, at::kLong) * 7 + seed).remainder(kVocab).view({rows, length});
}

TokenBatch batch_of(int64_t rows) {
  TokenBatch batch{tokens(rows, kTarget, 3), tokens(rows, kTarget, 10),
                   at::zeros({rows, kTarget}, at::kInt)};
  batch.source_BM = tokens(rows, kSource, 5);
  batch.source_counts_B = at::full({rows}, kSource, at::kLong);
  return batch;
}

TEST(EncoderDecoder, SeesTheWholeSourceButNoLaterTarget) {
  const Instance instance(tiny());
  const TokenBatch batch = batch_of(1);
  const at::Tensor before = instance.losses(batch);
  for (int64_t changed = 0; changed < kTarget; ++changed) {
    TokenBatch other = batch_of(1);
    other.tokens_BS[0][changed] = 31 - other.tokens_BS[0][changed].item<int64_t>();
    const at::Tensor after = instance.losses(other);
    EXPECT_TRUE(is_near(after.slice(1, 0, changed), before.slice(1, 0, changed), 1e-12));
    EXPECT_FALSE(is_near(after.select(1, changed), before.select(1, changed), 1e-6)) << changed;
  }
  for (int64_t changed = 0; changed < kSource; ++changed) {
    TokenBatch other = batch_of(1);
    other.source_BM[0][changed] = 31 - other.source_BM[0][changed].item<int64_t>();
    EXPECT_FALSE(is_near(instance.losses(other).select(1, 0), before.select(1, 0), 1e-9))
        << changed;
  }
}

TEST(EncoderDecoder, DoesNotSeePaddingOfTheSource) {
  const Instance instance(tiny());
  TokenBatch batch = batch_of(2), other = batch_of(2);
  batch.source_counts_B[1] = other.source_counts_B[1] = 5;
  other.source_BM[1].slice(0, 5).fill_(1);
  EXPECT_TRUE(is_near(instance.losses(other), instance.losses(batch), 1e-12));
  other.source_BM[1][4] = 30;
  EXPECT_FALSE(is_near(instance.losses(other), instance.losses(batch), 1e-6));
}

TEST(EncoderDecoder, StaysFiniteForARowOfPadding) {
  const Instance instance(tiny());
  TokenBatch batch = batch_of(2);
  batch.source_counts_B[0] = 0;
  batch.targets_BS[0].fill_(-1);
  EXPECT_TRUE(instance.losses(batch).isfinite().all().item<bool>());
}

TEST(EncoderDecoder, GeneratesWithACacheWhatItScoresAtOnce) {
  for (const config::Model& model : {tiny(), with_switch_attention()}) {
    const Instance instance(model);
    const TokenBatch batch = batch_of(2);
    const at::Tensor nll = instance.losses(batch);
    const at::NoGradGuard no_grad;
    StepContext context;
    context.group_tokens = kSource;
    TextState state = instance.model.text().encode(batch.source_BM, context);
    context.group_tokens = 1;
    for (int64_t t = 0; t < kTarget; ++t) {
      const at::Tensor logits =
          instance.model.text().next_logits(batch.tokens_BS.slice(1, t, t + 1), context, state);
      const at::Tensor expected =
          -logits.to(at::kDouble).log_softmax(-1).gather(1, batch.targets_BS.slice(1, t, t + 1));
      EXPECT_TRUE(is_near(nll.slice(1, t, t + 1), expected, 1e-5)) << t;
    }
  }
}

// Whether some change of a target token changes an earlier loss, with experts that overflow.
bool sees_later_targets(config::DropPolicy policy, bool allow_future) {
  config::Model model = tiny();
  config::Moe& moe = *model.mutable_moe();
  moe.set_top_k(1);
  moe.set_allow_future(allow_future);
  moe.mutable_router()->set_weighting(config::RAW);
  moe.mutable_capacity()->set_policy(policy);
  moe.mutable_capacity()->set_eval_factor(0.7);
  moe.mutable_capacity()->set_counts_k(true);
  const Instance instance(model);
  const at::Tensor before = instance.losses(batch_of(2));
  for (int64_t changed = 1; changed < kTarget; ++changed) {
    for (const int64_t by : {5, 11, 17}) {
      TokenBatch other = batch_of(2);
      other.tokens_BS.select(1, changed).add_(by).remainder_(kVocab);
      const at::Tensor after = instance.losses(other);
      if (!is_near(after.slice(1, 0, changed), before.slice(1, 0, changed), 1e-12)) return true;
    }
  }
  return false;
}

TEST(EncoderDecoder, RanksTheTokensOfItsEncoderAlone) {
  for (const config::DropPolicy policy : {config::BATCH_PRIORITIZED, config::BY_PROBABILITY}) {
    EXPECT_FALSE(sees_later_targets(policy, false)) << policy;
    EXPECT_TRUE(sees_later_targets(policy, true)) << policy;
  }
}

TEST(EncoderDecoder, LetsExpertsChooseInItsEncoderAlone) {
  config::Model model = tiny();
  config::Moe& moe = *model.mutable_moe();
  moe.mutable_router()->set_selection(config::EXPERT_CHOICE);
  moe.mutable_router()->set_weighting(config::RAW);
  moe.mutable_capacity()->set_policy(config::BY_PROBABILITY);
  moe.mutable_capacity()->set_eval_factor(0.7);
  moe.mutable_capacity()->set_counts_k(true);
  moe.mutable_balance_loss()->set_coefficient(0);
  moe.set_top_k(1);
  const auto changes_earlier = [&](bool allow_future) {
    moe.set_allow_future(allow_future);
    const Instance instance(model);
    const at::Tensor before = instance.losses(batch_of(2));
    TokenBatch other = batch_of(2);
    other.tokens_BS.select(1, kTarget - 1).add_(5).remainder_(kVocab);
    const at::Tensor after = instance.losses(other);
    return !is_near(after.slice(1, 0, kTarget - 1), before.slice(1, 0, kTarget - 1), 1e-12);
  };
  EXPECT_FALSE(changes_earlier(false));
  EXPECT_TRUE(changes_earlier(true));
}

TEST(EncoderDecoder, DropsHiddenFeaturesOfDenseFfnsInTraining) {
  const auto loss = [](double rate, bool training) {
    config::Model model = tiny();
    model.mutable_attention()->set_dropout(0);
    model.set_ffn_dropout(rate);
    const Instance instance(model);
    const at::NoGradGuard no_grad;
    StepContext context;
    context.training = training;
    context.group_tokens = kTarget;
    context.count.in_step = context.count.in_micro_batch = 2 * kTarget;
    context.source_count.in_step = context.source_count.in_micro_batch = 2 * kSource;
    return instance.model.loss(batch_of(2), context, 1, false).item<double>();
  };
  EXPECT_GT(std::abs(loss(0.3, true) - loss(0, true)), 1e-3);
  EXPECT_EQ(loss(0.3, false), loss(0, false));
}

TEST(EncoderDecoder, CountsTheMoeLayersOfBothStacks) {
  const Instance instance(tiny());
  int routers = 0;
  for (const Parameter& parameter : instance.table.parameters()) {
    routers += parameter.name.find("moe.router.weight") != std::string::npos;
  }
  EXPECT_EQ(routers, 2);  // every second of two layers, twice
}

class EncoderDecoderGradient : public ::testing::TestWithParam<bool> {};

TEST_P(EncoderDecoderGradient, AgreesWithFiniteDifferences) {
  config::Model model = GetParam() ? with_switch_attention() : tiny();
  // Auxiliary losses are in the gradient alone.
  model.mutable_moe()->mutable_balance_loss()->set_coefficient(0);
  model.mutable_moe()->set_z_loss_coefficient(0);
  const Instance instance(model);
  TokenBatch batch = batch_of(2);
  batch.source_counts_B[1] = 5;
  StepContext context;
  context.training = true;
  context.group_tokens = kTarget;
  context.count.in_step = context.count.in_micro_batch = 2 * kTarget;
  context.source_count.in_step = context.source_count.in_micro_batch = kSource + 5;
  const auto loss = [&] { return instance.model.loss(batch, context, 1, false); };
  loss().backward();
  const auto value = [&] {
    const at::NoGradGuard no_grad;
    return loss().item<double>();
  };
  for (const Parameter& parameter : instance.table.parameters()) {
    SCOPED_TRACE(parameter.name);
    EXPECT_GT(parameter.grad.abs().max().item<double>(), 1e-6);
    expect_gradient(parameter.master, parameter.grad, value,
                    {.step = 1e-5, .tolerance = 1e-8, .most_elements = 11});
  }
}

INSTANTIATE_TEST_SUITE_P(SwitchAttention, EncoderDecoderGradient, ::testing::Bool());

// Rows as they are, and the same with padding behind source and target.
struct PaddedPair {
  static constexpr int64_t kRows = 2, kShortSource = 5, kShortTarget = 4;

  static TokenBatch plain() {
    TokenBatch batch = batch_of(kRows);
    for (at::Tensor* x : {&batch.tokens_BS, &batch.targets_BS, &batch.documents_BS})
      *x = x->slice(1, 0, kShortTarget).contiguous();
    batch.source_BM = batch.source_BM.slice(1, 0, kShortSource).contiguous();
    batch.source_counts_B.fill_(kShortSource);
    return batch;
  }
  static TokenBatch padded() {
    TokenBatch batch = batch_of(kRows);
    batch.tokens_BS.slice(1, kShortTarget).fill_(0);
    batch.targets_BS.slice(1, kShortTarget).fill_(-1);
    batch.source_BM.slice(1, kShortSource).fill_(0);
    batch.source_counts_B.fill_(kShortSource);
    return batch;
  }

  // A training step's counters, loss and gradients.
  struct Step {
    double loss;
    std::vector<RoutingSums> sums;
    std::vector<at::Tensor> gradients;
  };
  static Step train(const TokenBatch& batch) {
    config::Model model = tiny();
    model.mutable_attention()->set_dropout(0);  // its draws are keyed by the number of keys
    model.set_ffn_dropout(0);                   // whose draws are keyed by the place in the batch
    const Instance instance(model);
    Step step{0, std::vector<RoutingSums>(2), {}};
    StepContext context;
    context.training = true;
    context.group_tokens = batch.tokens_BS.size(1);
    context.count.in_step = context.count.in_micro_batch = kRows * kShortTarget;
    context.source_count.in_step = context.source_count.in_micro_batch = kRows * kShortSource;
    context.routing.sums = &step.sums;
    const at::Tensor loss = instance.model.loss(batch, context, 1, false);
    loss.backward();
    step.loss = loss.item<double>();
    for (const Parameter& parameter : instance.table.parameters())
      step.gradients.push_back(parameter.grad.clone());
    return step;
  }
};

TEST(EncoderDecoder, NeitherRoutesNorCountsPadding) {
  const PaddedPair::Step plain = PaddedPair::train(PaddedPair::plain()),
                         padded = PaddedPair::train(PaddedPair::padded());
  EXPECT_NEAR(padded.loss, plain.loss, 1e-12 * plain.loss);
  for (size_t layer = 0; layer < 2; ++layer) {
    const RoutingStats expected = numbers_of(plain.sums)[layer],
                       actual = numbers_of(padded.sums)[layer];
    EXPECT_EQ(actual.tokens, expected.tokens) << layer;
    EXPECT_EQ(actual.slots, expected.slots) << layer;
    EXPECT_EQ(actual.load, expected.load) << layer;
    EXPECT_NEAR(actual.losses[RouterLoss::kBalance], expected.losses[RouterLoss::kBalance], 1e-12)
        << layer;
    EXPECT_NEAR(actual.losses[RouterLoss::kZ], expected.losses[RouterLoss::kZ], 1e-12) << layer;
    EXPECT_NEAR(actual.router_entropy, expected.router_entropy, 1e-12) << layer;
  }
  for (size_t i = 0; i < plain.gradients.size(); ++i)
    EXPECT_TRUE(is_near(padded.gradients[i], plain.gradients[i], 1e-11)) << i;
}

}  // namespace
}  // namespace switchyard::models
