// What a run's metrics say of its losses and of each expert.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/trainer/run_fixture.h"

namespace switchyard::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Metrics = RunTest;

// The last loss above the mean of those before, in their standard deviations; 0 for less than 20.
double sigmas_above(const std::vector<double>& losses) {
  const auto count = static_cast<double>(losses.size() - 1);
  if (count < 20) return 0;
  const double mean = std::accumulate(losses.begin(), losses.end() - 1, 0.0) / count;
  double squares = 0;
  for (size_t i = 0; i + 1 < losses.size(); ++i) squares += (losses[i] - mean) * (losses[i] - mean);
  return (losses.back() - mean) / std::sqrt(squares / count);
}

// A rate that is a thousand times as large from step 24 on.
const Arguments kSpiky{"train.steps=30",
                       "optimizer.schedule=CONSTANT",
                       "schedule[0].field=optimizer.lr",
                       "schedule[0].point[0].step=24",
                       "schedule[0].point[0].value=3",
                       "log.spike_sigmas=3",
                       "log.load_every=8"};

TEST_F(Metrics, FlagTheSpikesOfTheLossAtTheirStepAndAfterAResumeToo) {
  expect_trained({.run = "whole", .set = kSpiky});
  const auto whole = metrics("whole");
  std::vector<double> losses;
  std::vector<int> spikes;
  for (int step = 1; step <= 30; ++step) {
    const auto& record = whole[step - 1];
    losses.push_back(record["loss"]);
    const double sigmas = sigmas_above(losses);
    EXPECT_EQ(record.contains("spike"), sigmas > 3) << step;
    if (sigmas <= 3) continue;
    EXPECT_NEAR(record["spike"].get<double>(), sigmas, 1e-6);
    spikes.push_back(step);
  }
  ASSERT_FALSE(spikes.empty());
  const std::string place =
      fmt::format("its batch: sequences {} to {}; ", 8 * (spikes[0] - 1), 8 * spikes[0] - 1);
  EXPECT_THAT(read_file(file("whole/log.txt")),
              AllOf(HasSubstr(place), HasSubstr(" at token(s) "), HasSubstr("  spike: ")));

  Arguments seldom = kSpiky;
  seldom.insert(seldom.end(), {"log.every=8", "train.stop_after_steps=22"});
  EXPECT_THAT(train({.run = "seldom", .set = seldom}), EndsWithCode(75, "saved"));
  seldom.pop_back();
  expect_trained({.run = "seldom", .set = seldom});
  std::vector<int> logged{8, 16, 24, 30}, steps;
  for (const int spike : spikes)
    if (std::ranges::find(logged, spike) == logged.end()) logged.push_back(spike);
  std::ranges::sort(logged);
  for (const auto& record : metrics("seldom")) {
    if (!record.contains("loss")) continue;
    steps.push_back(record["step"]);
    EXPECT_EQ(record, whole[steps.back() - 1]);
  }
  EXPECT_EQ(steps, logged);
}

TEST_F(Metrics, HaveTheLossesThatAreOnAndNowAndThenTheLoadOfEachExpert) {
  expect_trained(
      {.run = "run",
       .set = {"train.steps=4", "log.load_every=2", "model.moe.importance_loss_coefficient=0.1",
               "model.moe.router.noise=LEARNED_NOISE", "model.moe.load_loss_coefficient=0.1"}});
  for (const auto& record : metrics("run")) {
    if (!record.contains("loss")) continue;
    for (const char* layer : {"moe/", "moe/0/", "moe/1/"}) {
      for (const char* name : {"importance_loss", "load_loss", "aux", "z"})
        EXPECT_TRUE(record.contains(layer + std::string(name))) << layer << name;
      for (const char* name : {"device_loss", "communication_loss", "threshold_loss"})
        EXPECT_FALSE(record.contains(layer + std::string(name))) << layer << name;
    }
    const bool is_due = record["step"].get<int>() % 2 == 0;
    EXPECT_FALSE(record.contains("moe/expert_load"));
    EXPECT_GT(record["moe/load_loss"], 0);
    ASSERT_EQ(record.contains("moe/1/expert_load"), is_due);
    if (!is_due) continue;
    const auto load = record["moe/1/expert_load"].get<std::vector<double>>();
    ASSERT_EQ(load.size(), 4u);
    EXPECT_NEAR(std::accumulate(load.begin(), load.end(), 0.0), 1, 1e-12);
    EXPECT_NEAR(4 * *std::ranges::max_element(load), record["moe/1/load_max_mean"], 1e-12);
  }
}

TEST_F(Metrics, NameLossesApartWhereAttentionCrossesDocuments) {
  expect_trained({.run = "run", .set = {"train.steps=2", "data.attend_across_documents=true"}});
  const auto records = metrics("run");
  EXPECT_FALSE(records.front().contains("loss"));
  EXPECT_TRUE(records.front().contains("loss_across_documents"));
  for (const char* key : {"eval/loss", "eval/synthetic/loss"}) {
    EXPECT_FALSE(records.back().contains(key));
    EXPECT_TRUE(records.back().contains(key + std::string("_across_documents")));
  }
  const Outcome outcome = call({"eval", file("run"), "--sequences", "4", "--json"});
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("loss_across_documents"), Not(HasSubstr("\"loss\""))));
}

}  // namespace
}  // namespace switchyard::testing
