// Models and parts of models, trained alone, over ranks, in micro-batches and with recompute.

#include <tuple>

#include <gtest/gtest.h>

#include "models/pass/stats.h"
#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"
#include "tests/testing/train_tiny.h"

namespace switchyard::testing {
namespace {

TEST(Training, InTwoMicroBatchesEqualsOne) {
  auto config = tiny_config();
  // The balance loss is a product of means over a micro-batch, so it does not add up.
  config.mutable_model()->mutable_moe()->mutable_balance_loss()->set_coefficient(0);
  const auto whole = train_alone(config, 5);
  config.mutable_train()->set_accumulation(2);
  const auto halves = train_alone(config, 5);
  EXPECT_TRUE(
      is_near(at::tensor(halves.losses, at::kDouble), at::tensor(whole.losses, at::kDouble)));
  EXPECT_TRUE(is_near(at::tensor(halves.gradient_norms, at::kDouble),
                      at::tensor(whole.gradient_norms, at::kDouble)));
  for (const auto& [name, weight] : whole.weights) {
    EXPECT_TRUE(is_near(halves.weights.at(name), weight)) << name;
  }
}

// Slots that the decoder's router drops in the last 40 of 80 steps.
int64_t dropped_by_the_decoder(double coefficient) {
  config::RunConfig config = tiny_encoder_decoder();
  config::Moe& moe = *config.mutable_model()->mutable_moe();
  moe.mutable_router()->set_selection(config::EXPERT_CHOICE);
  moe.mutable_router()->set_weighting(config::RAW);
  moe.mutable_capacity()->set_policy(config::BY_PROBABILITY);
  moe.mutable_capacity()->set_train_factor(1.25);
  moe.mutable_capacity()->set_counts_k(true);
  moe.mutable_capacity()->set_group_sequences(8);  // the whole batch: few drops are by chance
  moe.mutable_balance_loss()->set_coefficient(coefficient);
  moe.set_z_loss_coefficient(0);
  const auto trace = train_alone(config, 80);
  int64_t dropped = 0;
  for (const std::vector<models::RoutingStats>& step : trace.routers) {
    const auto& [encoder, decoder] = std::tie(step.at(0), step.at(1));
    EXPECT_EQ(encoder.load, std::vector<int64_t>(4, encoder.load[0]));
    if (&step - trace.routers.data() >= 40) dropped += decoder.dropped;
  }
  return dropped;
}

TEST(EncoderDecoder, BalancesItsDecoderWhereTheEncodersExpertsChoose) {
  const int64_t without = dropped_by_the_decoder(0), with = dropped_by_the_decoder(0.1);
  EXPECT_LT(2 * with, without);
}

TEST(ExpertForms, TrainAlikeOnEveryMesh) {
  const config::RunConfig config = tiny_expert_forms(config::DENSE_AFTER);
  const auto alone = train_alone(config, 4);
  for (const int expert : {1, 2, 4}) {
    config::RunConfig on_mesh = config;
    on_mesh.mutable_mesh()->set_expert(expert);
    const auto trace = train_on_threads(on_mesh, 4, 4);
    for (const auto& [name, gradient] : alone.gradients)
      EXPECT_TRUE(is_near(trace.gradients.at(name), gradient)) << name << " expert " << expert;
  }
}

TEST(ExpertForms, RecomputeToTheSameNumbers) {
  config::RunConfig config = tiny_expert_forms(config::DENSE_BEFORE);
  const auto plain = train_alone(config, 3);
  config.mutable_train()->set_recompute(config::RECOMPUTE_LAYER);
  const auto again = train_alone(config, 3);
  EXPECT_EQ(again.losses, plain.losses);
  EXPECT_EQ(again.gradient_norms, plain.gradient_norms);
}

}  // namespace
}  // namespace switchyard::testing
