// Every recipe under configs/recipes: it fits the models that its header names, says where it comes
// from, and has the published numbers.

#include <cmath>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/config/schedule.h"
#include "models/catalog/catalog.h"
#include "models/inspect/describe.h"
#include "optim/schedule.h"

namespace switchyard::models {
namespace {

using ::testing::HasSubstr;

const std::map<std::string, std::vector<std::string>>& models_of_recipes() {
  static const std::map<std::string, std::vector<std::string>> kModels = {
      {"deepseek_moe_2b", {"deepseek_moe_2b"}},
      {"deepseek_moe_16b", {"deepseek_moe_16b"}},
      {"deepseek_moe_145b", {"deepseek_moe_145b", "deepseek_moe_142b", "deepseek_gshard_137b"}},
      {"deepseek_v2", {"deepseek_v2"}},
      {"deepseek_v2_lite", {"deepseek_v2_lite"}},
      {"deepseek_v3", {"deepseek_v3"}},
      {"glam", {"glam_0_1b", "glam_1_7b_64e", "glam_8b_64e", "glam_64b_64e", "glam_tiny"}},
      {"gshard", {"gshard_12_5b", "gshard_50b", "gshard_150b", "gshard_tiny"}},
      {"gshard_2048e", {"gshard_200b", "gshard_600b", "gshard_1t"}},
      {"lstm_moe_2017", {"moe_4", "moe_1_deep", "moe_256_h", "moe_143m", "lstm_4x512"}},
      {"olmoe_1b_7b", {"olmoe_1b_7b", "olmoe_tiny"}},
      {"st_moe_32b", {"st_moe_32b"}},
      {"st_moe_l", {"st_moe_l", "st_moe_dense_l", "st_moe_tiny"}},
      {"switch", {"switch_base", "switch_xxl", "switch_c", "switch_tiny", "t5_base"}},
  };
  return kModels;
}

config::RunConfig with_recipe(const std::string& model, const std::string& recipe) {
  return preset_run(model, {"recipe_preset=" + recipe}, 1);
}
config::RunConfig recipe(const std::string& name) {
  return with_recipe(models_of_recipes().at(name).front(), name);
}

// In the step that begins after so many tokens, or steps.
double rate(const config::RunConfig& config, const config::Progress& progress) {
  return optim::learning_rate(config::in_force(config, progress).optimizer(), progress.step,
                              config.train().steps());
}
double rate_after(const config::RunConfig& config, double tokens) {
  constexpr int64_t kAfterWarmUp = 100'000;
  return rate(config, {kAfterWarmUp, std::llround(tokens)});
}
int64_t batch_after(const config::RunConfig& config, double tokens) {
  return config::global_batch_at(config, {0, std::llround(tokens)});
}
double all_tokens(const config::RunConfig& config) {
  return static_cast<double>(config::sequences_left(config, {})) * config.data().sequence_length();
}

TEST(Recipes, FitTheirModels) {
  for (const auto& [name, models] : models_of_recipes()) {
    for (const std::string& model : models) {
      const config::RunConfig config = with_recipe(model, name);
      EXPECT_FALSE(config.has_recipe_preset());
      EXPECT_GT(config.train().steps(), 10'000) << name;
      EXPECT_THAT(inspect_config(config, 1, false), HasSubstr("tokens per step"));
    }
  }
}

TEST(Recipes, AreListedWithTheirSources) {
  std::set<std::string> names;
  for (const PresetEntry& entry : recipes("configs")) {
    names.insert(entry.name);
    EXPECT_FALSE(entry.title.empty()) << entry.name;
    EXPECT_THAT(entry.source, HasSubstr("arXiv")) << entry.name;
  }
  std::set<std::string> expected;
  for (const auto& [name, models] : models_of_recipes()) expected.insert(name);
  EXPECT_EQ(names, expected);
}

TEST(Recipes, OfDeepSeekV3HasItsPhases) {
  const config::RunConfig config = recipe("deepseek_v3");
  EXPECT_DOUBLE_EQ(rate(config, {999, 0}), 1.1e-4);  // half of the warm-up
  EXPECT_DOUBLE_EQ(rate_after(config, 1e12), 2.2e-4);
  EXPECT_DOUBLE_EQ(rate_after(config, 10e12), 2.2e-4);
  EXPECT_DOUBLE_EQ(rate_after(config, 12.15e12), (2.2e-4 + 2.2e-5) / 2);
  EXPECT_DOUBLE_EQ(rate_after(config, 14.5e12), 2.2e-5);
  EXPECT_DOUBLE_EQ(rate_after(config, 14.7e12), 7.3e-6);
  EXPECT_EQ(batch_after(config, 0), 3072);
  EXPECT_EQ(batch_after(config, 469e9 / 2), 9216);
  EXPECT_EQ(batch_after(config, 469e9), 15360);
  EXPECT_NEAR(all_tokens(config), 14.8e12, 15360 * 4096);
  const auto model_after = [&](double tokens) {
    return config::in_force(config, {0, std::llround(tokens)}).model();
  };
  EXPECT_EQ(model_after(14.2e12).moe().router().bias_update_rate(), 0.001);
  EXPECT_EQ(model_after(14.3e12).moe().router().bias_update_rate(), 0);
  EXPECT_EQ(model_after(9.9e12).mtp().weight(), 0.3);
  EXPECT_EQ(model_after(10e12).mtp().weight(), 0.1);
}

TEST(Recipes, OfTheOtherDeepSeeksFallInTwoSteps) {
  const auto expect_steps = [](const std::string& name, double peak, double first, double second,
                               double tokens) {
    const config::RunConfig config = recipe(name);
    const bool by_steps = config.schedule(0).point(0).has_step();
    const auto at = [&](double share) {
      const auto steps = static_cast<double>(config.train().steps());
      return by_steps ? rate(config, {std::llround(share * steps), 0})
                      : rate_after(config, share * tokens);
    };
    EXPECT_DOUBLE_EQ(at(first - 0.01), peak) << name;
    EXPECT_DOUBLE_EQ(at(first + 0.01), 0.316 * peak) << name;
    EXPECT_DOUBLE_EQ(at(second - 0.01), 0.316 * peak) << name;
    EXPECT_DOUBLE_EQ(at(second + 0.01), 0.316 * 0.316 * peak) << name;
    EXPECT_NEAR(all_tokens(config), tokens, 0.05 * tokens) << name;
  };
  expect_steps("deepseek_moe_2b", 1.08e-3, 0.8, 0.9, 100e9);
  expect_steps("deepseek_moe_16b", 4.2e-4, 0.8, 0.9, 2e12);
  expect_steps("deepseek_v2", 2.4e-4, 0.6, 0.9, 8.1e12);
  expect_steps("deepseek_v2_lite", 4.2e-4, 0.8, 0.9, 5.7e12);
  EXPECT_EQ(batch_after(recipe("deepseek_v2"), 0), 2304);
  EXPECT_EQ(batch_after(recipe("deepseek_v2"), 225e9), 9216);
  EXPECT_EQ(rate(recipe("deepseek_moe_145b"), {12'999, 0}), 3e-4);
}

TEST(Recipes, WithAdafactorFollowTheInverseSquareRootAfterTenThousandSteps) {
  for (const std::string name :
       {"glam", "gshard", "gshard_2048e", "st_moe_32b", "st_moe_l", "switch"}) {
    const config::RunConfig config = recipe(name);
    for (const int64_t step : {0, 10'000, 40'000})
      EXPECT_NEAR(rate(config, {step, 0}), 1 / std::sqrt(std::max<double>(step, 1e4)), 1e-15);
    const bool is_google2020 = name.starts_with("g");
    EXPECT_EQ(config.optimizer().adafactor().beta2(), is_google2020 ? 0.99 : 1) << name;
    const int64_t tokens = int64_t{config.train().global_batch()} * config.data().sequence_length();
    EXPECT_EQ(tokens, name == "gshard_2048e" ? 1 << 22 : 1 << 20) << name;
  }
}

TEST(Recipes, OfOlmoeDecaysNormsAndEmbeddings) {
  const config::RunConfig config = recipe("olmoe_1b_7b");
  EXPECT_TRUE(config.optimizer().decay_norms());
  EXPECT_TRUE(config.optimizer().decay_embeddings());
  EXPECT_DOUBLE_EQ(rate(config, {2000, 0}), 4e-4);
  EXPECT_DOUBLE_EQ(rate(config, {config.train().steps() - 1, 0}), 4e-5);
}

TEST(Recipes, GiveWayToWhatTheRunSets) {
  const config::RunConfig config =
      preset_run("deepseek_v3", {"recipe_preset=deepseek_v3", "optimizer.lr=1e-4"}, 1);
  EXPECT_EQ(config.optimizer().lr(), 1e-4);
  EXPECT_EQ(config.optimizer().beta2(), 0.95);
}

}  // namespace
}  // namespace switchyard::models
