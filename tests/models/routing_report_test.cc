// The worked examples of routing, through the report that `inspect routing` prints.

#include "models/inspect/routing_report.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/tensor/aten.h"

namespace switchyard::models {
namespace {

using nlohmann::json;
using ::testing::DoubleNear;
using ::testing::Pointwise;

at::Tensor matrix(const std::vector<double>& values, int64_t columns) {
  return at::tensor(values, at::kDouble).view({-1, columns});
}

const at::Tensor kSwitchLogits =
    matrix({2, 1, 0, 1.5, 0, .5, 3, 0, 0, 0, 2, 1, 1, .5, 0, 0, .2, .9}, 3);
const at::Tensor kGshardLogits = matrix({2, 1, 0, -1, 2, 1.5, 0, 0, 1, 2, 0, 0, 2.5, 0, 1, 0}, 4);

json report(const std::string& moe_text, ReportInput input) {
  config::Moe moe;
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(
      "router { route_scale: 1 weight_norm: 1 second_choice: ALWAYS } " + moe_text, &moe));
  if (input.router.context.group_tokens == 0)
    input.router.context.group_tokens = input.router.logits_TE.size(0);
  return json::parse(routing_report(moe, std::move(input), 1, true));
}

ReportInput with(const at::Tensor& logits) {
  ReportInput input;
  input.router.logits_TE = logits;
  return input;
}

// Slots of choice j, -1 where there is none.
std::vector<int64_t> slots(const json& report, size_t j) {
  std::vector<int64_t> result;
  for (const json& token : report["tokens"]) result.push_back(token[j].value("slot", -1));
  return result;
}

// Weights of choice j, with or without a place.
std::vector<double> weights(const json& report, size_t j) {
  std::vector<double> result;
  for (const json& token : report["tokens"]) result.push_back(token[j]["weight"]);
  return result;
}

using Slots = std::vector<int64_t>;
using Weights = std::vector<double>;

auto are_near(const Weights& expected) { return Pointwise(DoubleNear(1e-6), expected); }

TEST(RoutingReport, ShowsTheSwitchExample) {
  const std::string moe =
      "num_experts: 3 top_k: 1 router { weighting: RAW score: SOFTMAX } "
      "balance_loss { load: FIRST_CHOICE statistics: PER_GROUP } ";
  const json by_position =
      report(moe + "capacity { policy: BY_POSITION train_factor: 1 }", with(kSwitchLogits));
  EXPECT_EQ(by_position["capacity"], 2);
  EXPECT_EQ(slots(by_position, 0), (Slots{0, 1, -1, 0, -1, 0}));
  EXPECT_EQ(by_position["dropped"], 2);
  EXPECT_THAT(weights(by_position, 0),
              are_near({.665241, .628532, .909443, .665241, .506480, .525443}));
  EXPECT_EQ(by_position["tokens"][2][0]["without_slot"], "no room");
  EXPECT_NEAR(by_position["losses"]["balance"], 1.253339, 1e-6);
  EXPECT_NEAR(by_position["losses"]["z"], 5.039361, 1e-6);
  const json surest_first =
      report(moe + "capacity { policy: BATCH_PRIORITIZED train_factor: 1 }", with(kSwitchLogits));
  EXPECT_EQ(slots(surest_first, 0), (Slots{1, -1, 0, 0, -1, 0}));
  const json without_drops = report(moe + "capacity { policy: NO_DROP }", with(kSwitchLogits));
  EXPECT_EQ(slots(without_drops, 0), (Slots{0, 1, 2, 0, 3, 0}));
}

// V-MoE ranks by probability: the second token is surer of expert 0, though not next to its second.
TEST(RoutingReport, RanksTokensByProbabilityBeforeItIsRenormalized) {
  const at::Tensor p = matrix({.35, .23, .21, .21, .45, .40, .10, .05}, 4);
  const json r = report(
      "num_experts: 4 top_k: 2 router { weighting: RENORMALIZE score: SOFTMAX } "
      "capacity { policy: BATCH_PRIORITIZED fixed_slots: 1 }",
      with(p.log()));
  EXPECT_EQ(r["capacity"], 1);
  EXPECT_EQ(slots(r, 0), (Slots{-1, 0}));
}

TEST(RoutingReport, CountsTheFirstChoiceOfNextFreeAsLoad) {
  const json r = report(
      "num_experts: 3 top_k: 1 router { weighting: RAW score: SOFTMAX } "
      "capacity { policy: NEXT_FREE train_factor: 1 rounds: 3 }",
      with(kSwitchLogits));
  EXPECT_EQ(r["load"], (Slots{4, 1, 1}));
}

TEST(RoutingReport, ShowsTheNextFreeExpert) {
  const json r = report(
      "num_experts: 3 top_k: 1 router { weighting: RAW score: SOFTMAX } "
      "capacity { policy: NEXT_FREE train_factor: 1 rounds: 3 } "
      "balance_loss { load: ALL_CHOICES statistics: PER_GROUP }",
      with(kSwitchLogits));
  Slots expert, slot;
  Weights weight;
  for (const json& token : r["tokens"]) {
    for (const json& choice : token) {
      if (!choice.contains("slot")) continue;
      expert.push_back(choice["expert"]);
      slot.push_back(choice["slot"]);
      weight.push_back(choice["weight"]);
    }
  }
  EXPECT_EQ(expert, (Slots{0, 0, 1, 1, 2, 2}));
  EXPECT_EQ(slot, (Slots{0, 1, 1, 0, 1, 0}));
  EXPECT_THAT(weight, are_near({.665241, .628532, .045279, .665241, .186324, .525443}));
  EXPECT_NEAR(r["losses"]["balance"], 1, 1e-12);  // every token names every expert
  EXPECT_EQ(r["tokens"][2][0]["without_slot"], "no room");
  EXPECT_EQ(r["tokens"][2][2]["without_slot"], "not needed");
}

TEST(RoutingReport, ShowsTheGshardExampleWithItsPolicies) {
  const std::string moe =
      "num_experts: 4 top_k: 2 router { weighting: RENORMALIZE score: SOFTMAX } "
      "balance_loss { load: FIRST_CHOICE statistics: PER_GROUP } "
      "capacity { policy: BY_POSITION train_factor: 2 } ";
  const json all = report(moe, with(kGshardLogits));
  EXPECT_EQ(slots(all, 0), (Slots{0, 1, 0, -1}));
  EXPECT_EQ(slots(all, 1), (Slots{1, -1, -1, 0}));
  EXPECT_THAT(weights(all, 0), are_near({.731059, .622459, .731059, .817574}));
  EXPECT_THAT(weights(all, 1), are_near({.268941, .377541, .268941, .182426}));
  EXPECT_NEAR(all["losses"]["balance"], 1.898834, 1e-6);
  ReportInput input = with(kGshardLogits);
  input.lots.uniform_TN = at::tensor({.9f, .1f, .5f, .3f}).view({4, 1});
  const json random = report(
      moe + "router { second_choice: AT_RANDOM second_choice_threshold: 0.5 }", std::move(input));
  EXPECT_EQ(slots(random, 1), (Slots{-1, 1, -1, 0}));
  EXPECT_EQ(random["tokens"][0][1]["without_slot"], "rejected");
  EXPECT_EQ(random["rejected"], 1);
}

TEST(RoutingReport, ShowsTheNoisyExample) {
  ReportInput input = with(matrix({1, .5, .2, -.3, .1, .9, .8, 0, .3, .2, .1, .7}, 4));
  input.router.noise_logits_TE = at::zeros({3, 4}, at::kDouble);
  input.noise.normal_TE = matrix({.2, -.1, .5, .3, -.4, .1, 0, .6, .5, -.2, .1, -.3}, 4);
  const json r = report(
      "num_experts: 4 top_k: 2 router { weighting: RENORMALIZE score: SOFTMAX noise: LEARNED_NOISE "
      "} importance_loss_coefficient: 1 load_loss_coefficient: 1",
      std::move(input));
  EXPECT_NEAR(r["tokens"][0][0]["weight"], .643148, 1e-6);
  EXPECT_NEAR(r["losses"]["importance"], .142093, 1e-6);
  EXPECT_NEAR(r["losses"]["load"], .025025, 1e-6);
  EXPECT_EQ(r["load"], (Slots{2, 1, 2, 1}));
}

// Noise of 0.5 * 2 lifts the last of the first token above its first.
TEST(RoutingReport, TakesNormalDrawsForFixedNoise) {
  ReportInput input = with(matrix({1, .5, .2, .3, 1, .5, .2, .3}, 4));
  input.noise.normal_TE = matrix({0, 0, 0, 2, 0, 0, 0, 0}, 4);
  const std::string moe =
      "num_experts: 4 top_k: 1 router { weighting: RAW score: SOFTMAX noise: FIXED_NOISE "
      "noise_std: 0.5 } load_loss_coefficient: 1";
  const json r = report(moe, input);
  EXPECT_EQ(r["tokens"][0][0]["expert"], 3);
  EXPECT_NEAR(r["tokens"][0][0]["weight"], 0.396351, 1e-6);  // softmax of 1, .5, .2, 1.3
  EXPECT_EQ(r["tokens"][1][0]["expert"], 0);
  EXPECT_TRUE(r["losses"].contains("load"));
  input.training = false;
  EXPECT_EQ(report(moe, input)["tokens"][0][0]["expert"], 0);
}

TEST(RoutingReport, ShowsDeepSeeksLosses) {
  const json r = report(
      "num_experts: 4 top_k: 2 num_devices: 2 router { weighting: RAW score: SOFTMAX num_groups: 2 "
      "group_top_k: 2 group_score_experts: 1 } capacity { group_sequences: 1 } balance_loss { "
      "load: "
      "ALL_CHOICES statistics: PER_SEQUENCE device_coefficient: 1 communication_coefficient: 1 }",
      with(matrix({2, 1, 0, 0, 2, 0, 1, 0, 0, 1, 2, 0, 1, 2, 0, .5}, 4)));
  EXPECT_NEAR(r["losses"]["balance"], 1.234137, 1e-6);
  EXPECT_NEAR(r["losses"]["device"], 1.156792, 1e-6);
  EXPECT_NEAR(r["losses"]["communication"], .828396, 1e-6);
}

TEST(RoutingReport, ShowsBiasedGroups) {
  ReportInput input = with(matrix({.9, .1, .6, .55, .7, .05, .3, .2}, 8).logit());
  input.router.bias_E = at::tensor({-.2, 0., 0., .1, 0., 0., 0., 0.}, at::kDouble);
  const json r = report(
      "num_experts: 8 top_k: 2 router { weighting: RENORMALIZE score: SIGMOID route_scale: 2.5 "
      "selection_bias: true num_groups: 4 group_top_k: 2 group_score_experts: 2 }",
      std::move(input));
  EXPECT_EQ(r["tokens"][0][0]["expert"], 0);
  EXPECT_EQ(r["tokens"][0][1]["expert"], 3);
  EXPECT_NEAR(r["tokens"][0][0]["weight"], 1.551724, 1e-6);
  EXPECT_NEAR(r["tokens"][0][1]["weight"], .948276, 1e-6);
}

// The best group has not the best expert.
TEST(RoutingReport, ShowsTheGateOfTwoLevels) {
  ReportInput input = with(matrix({2, 0, 1, 3}, 4));
  input.router.group_logits_TA = matrix({1, 0}, 2);
  const json r = report(
      "num_experts: 4 top_k: 1 router { weighting: RAW hierarchy: TWO_LEVEL num_groups: 2 "
      "group_top_k: 1 }",
      std::move(input));
  EXPECT_EQ(r["tokens"][0][0]["expert"], 0);
  EXPECT_NEAR(r["tokens"][0][0]["weight"], .731059 * .880797, 1e-6);
}

// The second of each token drawn: 0.5 + 2 is more than 1.
TEST(RoutingReport, TakesGumbelDraws) {
  const std::string moe =
      "num_experts: 4 top_k: 2 router { weighting: RENORMALIZE score: SOFTMAX second_choice: "
      "SAMPLED_SECOND }";
  ReportInput input = with(matrix({2, 1, .5, 0, 2, 1, .5, 0}, 4));
  input.noise.gumbel_TE = matrix({9, 0, 2, 0, 9, 0, 0, 0}, 4);
  const json r = report(moe, input);
  EXPECT_EQ(r["tokens"][0][1]["expert"], 2);
  EXPECT_EQ(r["tokens"][1][1]["expert"], 1);
  input.training = false;
  EXPECT_EQ(report(moe, input)["tokens"][0][1]["expert"], 1);
}

TEST(RoutingReport, SparesExemptTokens) {
  ReportInput input = with(matrix({2, 0, 3, 0, 1, 0, 4, 0}, 2));
  input.lots.exempt_T1 = at::tensor({0, 0, 1, 0}).ne(0).unsqueeze(1);
  const json r = report(
      "num_experts: 2 top_k: 1 num_devices: 2 router { weighting: RAW } capacity { policy: "
      "DEVICE_BUDGET train_factor: 1 group_sequences: 1 exempt_share: 0.5 }",
      std::move(input));
  EXPECT_EQ(slots(r, 0), (Slots{-1, -1, 0, 1}));
  EXPECT_EQ(r["tokens"][0][0]["without_slot"], "over budget");
}

TEST(RoutingReport, ShowsTheCapacitiesOfBothLevels) {
  ReportInput input = with(at::zeros({8, 4}, at::kDouble));
  input.router.group_logits_TA = matrix({1, 0}, 2).repeat({8, 1});
  const json r = report(
      "num_experts: 4 top_k: 2 router { weighting: RENORMALIZE hierarchy: TWO_LEVEL_BY_IMPORTANCE "
      "num_groups: 2 group_top_k: 1 } capacity { policy: BY_POSITION train_factor: 1.5 "
      "second_level_factor: 1 }",
      std::move(input));
  EXPECT_EQ(r["capacity"]["group"], 6);
  EXPECT_EQ(r["capacity"]["expert"], 3);
  EXPECT_EQ(slots(r, 0), (Slots{0, 1, 2, -1, -1, -1, -1, -1}));
  EXPECT_EQ(r["dropped"], 10);
}

// Probabilities: of expert 0 .67 .63 .91 .09 .51 .22; 1: .24 .14 .05 .67 .31 .26; 2: .09 .23 .05
// .24 .19 .53. In training each takes its two best; in evaluation whom they put above 0.3.
TEST(RoutingReport, ShowsStrictBalanceInTrainingAndItsThresholdsInEvaluation) {
  const std::string moe =
      "num_experts: 3 top_k: 1 router { score: SOFTMAX selection: STRICTLY_BALANCED weighting: "
      "RENORMALIZE_KEPT } capacity { policy: BY_PROBABILITY train_factor: 1 counts_k: true }";
  ReportInput input = with(kSwitchLogits);
  input.router.threshold_E = at::full({3}, .3, at::kDouble);
  const json training = report(moe, input);
  EXPECT_EQ(slots(training, 0), (Slots{1, -1, 0, -1, -1, -1}));  // the likelier first
  EXPECT_EQ(slots(training, 1), (Slots{-1, -1, -1, 0, 1, -1}));
  EXPECT_EQ(slots(training, 2), (Slots{-1, -1, -1, 1, -1, 0}));
  EXPECT_EQ(training["dropped"], 1);
  EXPECT_NEAR(training["tokens"][3][1]["weight"], .665241 / (.665241 + .244728), 1e-6);
  input.training = false;
  EXPECT_EQ(report(moe, input)["load"], (Slots{4, 2, 1}));
}

}  // namespace
}  // namespace switchyard::models
