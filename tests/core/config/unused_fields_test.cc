#include "core/config/unused_fields.h"

#include <gmock/gmock.h>

#include "core/config/defaults.h"
#include "core/config/fields.h"
#include "core/config/print.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using testing::HasSubstr;

using UnusedFields = ConfigFiles;

TEST_F(UnusedFields, AreRefusedWithWhoReadsThemAndWhatStandsAgainst) {
  EXPECT_EQ(
      error(kSmallRun, {"model.moe.capacity.policy=BY_POSITION", "model.moe.capacity.rounds=3"}),
      "--set: model.moe.capacity.rounds (3) is set, but only policy NEXT_FREE tries further "
      "experts, while model.moe.capacity.policy is BY_POSITION; leave it out");
}

// A field, a value of it, and what must be set for the field to be read.
struct Case {
  const char* path;
  const char* value;
  std::vector<std::string> needs;
};

const std::string kBudget = "model.moe.capacity.policy=DEVICE_BUDGET";
const std::string kPosition = "model.moe.capacity.policy=BY_POSITION";
const std::string kGroups = "model.moe.router.num_groups=2";
const std::string kFewer = "model.moe.router.group_top_k=1";

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"model.norm_cast", "CAST_THEN_SCALE", {"model.norm=RMS_NORM"}},
      {"model.attention.rope_theta", "5000", {"model.attention.position=ROPE"}},
      {"model.init_std", "0.1", {"model.initializer=NORMAL"}},
      {"model.moe.num_devices", "2", {kBudget}},
      {"model.moe.num_devices", "2", {"model.moe.balance_loss.device_coefficient=0.1"}},
      {"model.moe.dead_expert_noise", "0.2", {"model.moe.dead_expert_action=REINITIALIZE"}},
      {"model.moe.router.init_std", "0.1", {"model.initializer=NORMAL"}},
      {"model.moe.router.second_choice_threshold",
       "0.2",
       {"model.moe.router.second_choice=AT_RANDOM"}},
      {"model.moe.router.later_choice_threshold",
       "0.2",
       {"model.moe.router.second_choice=ABOVE_THRESHOLD", "model.moe.top_k=3"}},
      {"model.moe.router.group_top_k", "1", {kGroups}},
      {"model.moe.router.group_score_experts", "2", {kGroups, kFewer}},
      {"model.moe.router.bias_update_rate", "0.1", {"model.moe.router.selection_bias=true"}},
      {"model.moe.capacity.train_factor", "1.5", {kBudget, "model.moe.num_devices=2"}},
      {"model.moe.capacity.eval_factor", "1.5", {kPosition}},
      {"model.moe.capacity.counts_k", "false", {kPosition}},
      {"model.moe.capacity.minimum", "2", {kPosition}},
      {"model.moe.capacity.rounding", "ROUND_UP", {kPosition}},
      {"model.moe.capacity.multiple_of", "2", {kPosition}},
      {"model.moe.capacity.rounds", "3", {"model.moe.capacity.policy=NEXT_FREE"}},
      {"model.moe.capacity.exempt_share", "0.2", {kBudget, "model.moe.num_devices=2"}},
      {"model.moe.capacity.second_level_factor",
       "2",
       {kPosition, kGroups, "model.moe.router.hierarchy=TWO_LEVEL_BY_IMPORTANCE"}},
      {"model.moe.capacity.group_rule",
       "FLAXFORMER",
       {kPosition, "model.moe.capacity.max_group_tokens=64"}},
      {"optimizer.min_lr", "0", {"optimizer.schedule=LINEAR"}},
  };
  return all;
}

// What makes the same field idle: the defaults of kSmallRun, or these.
const std::vector<std::string> kIdle = {
    "model.norm=LAYER_NORM", "model.attention.position=RELATIVE_BIAS",
    "model.initializer=TRUNCATED_NORMAL", "optimizer.schedule=CONSTANT"};

TEST_F(UnusedFields, AreReadWhereTheirReaderIs) {
  for (const Case& c : cases()) {
    std::vector<std::string> changes = c.needs;
    changes.push_back(std::string(c.path) + "=" + c.value);
    EXPECT_EQ(error(kSmallRun, changes), "") << c.path;
  }
}

TEST_F(UnusedFields, AreRefusedAndUnsetElsewhere) {
  const RunConfig resolved = load_config(run(kSmallRun), kIdle);
  for (const Case& c : cases()) {
    EXPECT_FALSE(has_at(resolved, c.path)) << c.path;
    std::vector<std::string> changes = kIdle;
    changes.push_back(std::string(c.path) + "=" + c.value);
    EXPECT_THAT(error(kSmallRun, changes), HasSubstr(std::string(c.path) + " (")) << c.path;
  }
}

TEST_F(UnusedFields, OfADeviceBudgetAreThoseOfAnExpertsCapacity) {
  for (const std::string field :
       {"counts_k=true", "minimum=0", "rounding=ROUND_DOWN", "multiple_of=1", "eval_factor=2"})
    EXPECT_THAT(
        error(kSmallRun, {kBudget, "model.moe.num_devices=2", "model.moe.capacity." + field}),
        HasSubstr("only a capacity by factors"))
        << field;
}

TEST_F(UnusedFields, AllowTheValueThatIsTrueAnyway) {
  for (const std::string change : {"model.d_ff=0", "model.moe.capacity.group_sequences=1",
                                   "model.moe.capacity.max_group_tokens=0"})
    EXPECT_EQ(error(kSmallRun, {change}), "") << change;
  for (const std::string change : {"model.d_ff=8", "model.moe.capacity.group_sequences=2",
                                   "model.moe.capacity.max_group_tokens=32"})
    EXPECT_THAT(error(kSmallRun, {change}), HasSubstr("leave it out")) << change;
}

TEST_F(UnusedFields, IncludeTheKindOfDenseLayersWhereNoneIs) {
  EXPECT_EQ(error(kSmallRun, {"model.ffn=RELU"}), "");  // the experts' default
  EXPECT_THAT(error(kSmallRun, {"model.ffn=RELU", "model.moe.ffn=GELU"}),
              HasSubstr("an expert of a kind of its own, while model.moe.ffn is GELU"));
  EXPECT_FALSE(load_config(run(kSmallRun), {"model.moe.ffn=GELU"}).model().has_ffn());
}

TEST_F(UnusedFields, OfHashRoutingAreTheRouters) {
  for (const std::string field :
       {"router.score=SIGMOID", "router.input_jitter=0.1", "router.input_dropout=0.1",
        "router.init_std=0", "router.initializer=OWN_NORMAL", "router.weight_norm=2",
        "balance_loss.statistics=PER_GROUP", "balance_loss.load=FIRST_CHOICE",
        "balance_loss.second_place=true", "layer_aggregation=MEAN_OVER_LAYERS"})
    EXPECT_THAT(error(kSmallRun, {"model.moe.router.selection=HASH", "model.moe." + field}),
                HasSubstr("leave it out"))
        << field;
}

TEST_F(UnusedFields, KnowWhatAScheduleSwitchesOn) {
  const std::string later =
      "schedule { field: \"model.moe.balance_loss.device_coefficient\" point { step: 5 value: 0.1 "
      "} }";
  EXPECT_THAT(unused_fields(load_config(run(kSmallRun + later), {"model.moe.num_devices=2"})),
              testing::IsEmpty());
}

TEST_F(UnusedFields, OfDataAreTheTokenizerOfNoTextAndTheWeightOfWhatIsNotBlended) {
  EXPECT_THAT(error(kSmallRun, {"data.tokenizer=bytes"}),
              HasSubstr("data.tokenizer (\"bytes\") is set, but only text in files"));
  const std::string text =
      edited("synthetic {}", "train { path: \"a\" } validation { path: \"b\" }");
  EXPECT_EQ(error(text, {"data.tokenizer=bytes"}), "");
  EXPECT_THAT(error(text, {"data.validation[0].weight=2"}),
              HasSubstr("data.validation[0].weight (2) is set, but each validation source"));
  EXPECT_THAT(error(edited("synthetic {}", "train { path: \"a\" }"), {"eval.sequences=8"}),
              HasSubstr("there is no validation source"));
}

TEST_F(UnusedFields, OfADenseModelAreTheExperts) {
  const std::string dense = edited("moe { num_experts: 4 d_ff: 32 }", "d_ff: 32");
  EXPECT_EQ(error(dense), "");
  EXPECT_THAT(error(dense, {"log.dead_after_steps=5"}), HasSubstr("only experts can be without"));
}

TEST_F(UnusedFields, ResolveToAConfigThatLoadsAgain) {
  EXPECT_NO_THROW(
      load_config(write("again.textproto", to_text(load_config(run(kSmallRun), kIdle)))));
}

}  // namespace
}  // namespace switchyard::config
