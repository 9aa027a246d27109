// Values of the presets that sizes do not show, held to the publications that their headers name.

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "core/config/overrides.h"
#include "models/catalog/catalog.h"
#include "models/moe/placement/capacity.h"

namespace switchyard::models {
namespace {

using ::testing::HasSubstr;

// What a source says of some models, each value as `--set` takes it.
struct PublishedValues {
  const char* source;
  std::vector<const char*> models;
  std::vector<const char*> values;
};

const std::vector<const char*> kGlamMixtures = {"glam_0_1b_64e",  "glam_1_7b_32e",  "glam_1_7b_64e",
                                                "glam_1_7b_128e", "glam_1_7b_256e", "glam_8b_64e",
                                                "glam_64b_64e",   "glam_tiny"};
const std::vector<const char*> kGshardMixtures = {"gshard_12_5b", "gshard_37b",  "gshard_50b",
                                                  "gshard_150b",  "gshard_200b", "gshard_600b",
                                                  "gshard_1t",    "gshard_tiny"};

const std::vector<PublishedValues> kGoogle = {
    {"GShard, section 2.2 and the hyper-parameters of its models",
     kGshardMixtures,
     {"model.moe.top_k=2", "model.moe.router.second_choice=AT_RANDOM",
      "model.moe.router.second_choice_threshold=0.5", "model.moe.capacity.train_factor=2",
      "model.moe.capacity.counts_k=false", "model.moe.balance_loss.statistics=PER_GROUP",
      "model.moe.balance_loss.load=FIRST_CHOICE", "model.dropout=0.1",
      "model.attention.dropout=0.1", "model.ffn_dropout=0"}},
    {"GLaM and the authors' layer definitions",
     kGlamMixtures,
     {"model.moe.top_k=2", "model.moe.capacity.train_factor=2", "model.moe.capacity.counts_k=false",
      "model.moe.balance_loss.coefficient=0.01", "model.moe.balance_loss.statistics=PER_GROUP",
      "model.moe.ffn=RELU", "model.ffn=GEGLU_TANH", "model.norm_eps=1e-6",
      "model.attention.scale=1", "model.attention.relative_bias.shared=false",
      "model.initializer=TRUNCATED_NORMAL", "model.init_scale=1",
      "model.init_restore_variance=true", "model.output_z_loss_coefficient=1e-4"}},
    {"Switch Transformers, section 2 and appendix",
     {"switch_base", "switch_base_8", "switch_large", "switch_xxl", "switch_c", "switch_tiny"},
     {"model.moe.top_k=1", "model.moe.router.weighting=RAW", "model.moe.router.input_jitter=0.01",
      "model.moe.balance_loss.coefficient=0.01", "model.moe.balance_loss.statistics=PER_GROUP",
      "model.moe.balance_loss.load=FIRST_CHOICE", "model.init_scale=0.1",
      "model.init_restore_variance=false", "model.output_z_loss_coefficient=1e-4"}},
    {"the released configuration of Switch-Base",
     {"switch_base", "switch_base_8", "switch_base_256"},
     {"model.moe.capacity.train_factor=1.25", "model.moe.capacity.eval_factor=2",
      "model.moe.capacity.max_group_tokens=8192", "model.dropout=0"}},
    {"the released configuration of Switch-Large",
     {"switch_large", "switch_large_128"},
     {"model.moe.capacity.train_factor=1.25", "model.moe.capacity.max_group_tokens=4096"}},
    {"the released configuration of Switch-XXL",
     {"switch_xxl"},
     {"model.moe.capacity.eval_factor=4", "model.moe.capacity.minimum=2",
      "model.moe.capacity.max_group_tokens=4096", "model.tie_embeddings=false"}},
    {"the released configuration of Switch-C",
     {"switch_c"},
     {"model.moe.capacity.train_factor=1", "model.moe.capacity.eval_factor=2",
      "model.moe.capacity.minimum=2", "model.moe.capacity.max_group_tokens=2048",
      "model.tie_embeddings=false"}},
    {"T5, section 3.1; its released configuration",
     {"t5_base", "t5_large"},
     {"model.dropout=0.1", "model.attention.dropout=0.1", "model.tie_embeddings=true",
      "model.output_z_loss_coefficient=1e-4", "model.norm_eps=1e-6", "model.attention.scale=1"}},
    {"T5's released configuration 1.1", {"t5_xxl"}, {"model.dropout=0", "model.ffn=GEGLU_TANH"}},
    {"ST-MoE, sections 3 and 5; its released configuration",
     {"st_moe_l", "st_moe_32b", "st_moe_tiny"},
     {"model.moe.top_k=2", "model.moe.capacity.policy=BY_POSITION",
      "model.moe.capacity.train_factor=1.25", "model.moe.capacity.eval_factor=2",
      "model.moe.router.second_choice_threshold=0.2", "model.moe.balance_loss.coefficient=0.01",
      "model.moe.z_loss_coefficient=1e-3", "model.output_z_loss_coefficient=1e-4",
      "model.init_scale=0.1", "model.dropout=0"}},
    {"the released configuration of ST-MoE",
     {"st_moe_dense_l"},
     {"model.output_z_loss_coefficient=1e-4", "model.init_scale=0.1", "model.dropout=0"}},
    {"ST-MoE-32B's released configuration",
     {"st_moe_32b"},
     {"model.moe.capacity.max_group_tokens=4096"}},
    {"Shazeer et al. (2017), appendix C",
     {"moe_32", "moe_256", "moe_256_h", "moe_4096_h", "moe_34m", "moe_143m"},
     {"model.moe.importance_loss_coefficient=0.1", "model.moe.load_loss_coefficient=0.1",
      "model.moe.router.init_std=0", "model.moe.router.noise=LEARNED_NOISE", "model.moe.top_k=4",
      "model.moe.capacity.policy=NO_DROP"}},
};

const std::vector<PublishedValues> kDecoders = {
    {"config.json and loss of the port to Transformers",
     {"mixtral_8x7b", "mixtral_8x22b", "qwen1_5_moe_a2_7b", "qwen2_57b_a14b", "mixtral_tiny",
      "qwen1_5_moe_tiny"},
     {"model.moe.balance_loss.statistics=PER_RANK", "model.moe.balance_loss.load=TOKENS_CHOOSING",
      "model.moe.layer_aggregation=POOLED_LAYERS", "model.moe.capacity.policy=NO_DROP",
      "model.attention.rope_theta=1e6"}},
    {"config.json of Mixtral-8x7B-v0.1",
     {"mixtral_8x7b"},
     {"model.moe.balance_loss.coefficient=0.02", "model.norm_eps=1e-5"}},
    {"config.json of Mixtral-8x22B-v0.1",
     {"mixtral_8x22b"},
     {"model.moe.balance_loss.coefficient=0.001", "model.norm_eps=1e-5"}},
    {"config.json of Qwen1.5-MoE-A2.7B and Qwen2-57B-A14B",
     {"qwen1_5_moe_a2_7b", "qwen2_57b_a14b"},
     {"model.moe.balance_loss.coefficient=0.001", "model.norm_eps=1e-6",
      "model.moe.router.weighting=RAW", "model.attention.qkv_bias=true",
      "model.moe.shared_expert.sigmoid_gate=true"}},
    {"the report and config.json of Qwen3",
     {"qwen3_30b_a3b", "qwen3_235b_a22b", "qwen3_moe_tiny"},
     {"model.moe.balance_loss.coefficient=0.001", "model.moe.balance_loss.statistics=GLOBAL_BATCH",
      "model.moe.router.weighting=RENORMALIZE", "model.attention.rope_theta=1e6",
      "model.attention.qk_norm=PER_HEAD", "model.norm_eps=1e-6"}},
    {"config.json of dbrx-base; MegaBlocks",
     {"dbrx", "dbrx_tiny"},
     {"model.moe.balance_loss.coefficient=0.05", "model.moe.balance_loss.statistics=PER_RANK",
      "model.moe.balance_loss.load=ALL_CHOICES", "model.moe.layer_aggregation=MEAN_OVER_LAYERS",
      "model.attention.rope_theta=5e5", "model.attention.qkv_clip=8", "model.norm_eps=1e-5"}},
    {"the configs of allenai/OLMoE; MegaBlocks",
     {"olmoe_1b_7b", "olmoe_tiny"},
     {"model.moe.balance_loss.coefficient=0.01", "model.moe.balance_loss.statistics=PER_RANK",
      "model.moe.balance_loss.load=ALL_CHOICES", "model.moe.layer_aggregation=MEAN_OVER_LAYERS",
      "model.moe.z_loss_coefficient=1e-3", "model.init_std=0.02", "model.init_cut=3",
      "model.attention.rope_theta=1e4", "model.norm_eps=1e-5"}},
    {"model.py of xai-org/grok-1",
     {"grok_1"},
     {"model.output_scale=0.5773502691896257", "model.attention.logit_cap=30",
      "model.attention.rope_theta=1e4", "model.norm_eps=1e-5", "model.moe.router.weighting=RAW"}},
};

const std::vector<PublishedValues> kDeepSeek = {
    {"the papers of DeepSeekMoE, V2 and V3",
     {"deepseek_moe_2b", "deepseek_moe_16b", "deepseek_moe_145b", "deepseek_moe_142b",
      "deepseek_v2", "deepseek_v2_128k", "deepseek_v2_lite", "deepseek_v2_lite_32k", "deepseek_v3",
      "deepseek_v3_128k"},
     {"model.init_std=0.006", "model.norm_eps=1e-6", "model.attention.rope_theta=1e4",
      "model.moe.balance_loss.statistics=PER_SEQUENCE", "model.moe.z_loss_coefficient=0"}},
    {"DeepSeekMoE, section 4.1", {"deepseek_moe_2b"}, {"model.moe.balance_loss.coefficient=0.01"}},
    {"DeepSeekMoE, section 5.1; DeepSeek-V2, appendix B",
     {"deepseek_moe_16b", "deepseek_v2_lite", "deepseek_v2_lite_32k"},
     {"model.moe.balance_loss.coefficient=0.001", "model.moe.capacity.policy=NO_DROP",
      "model.moe.router.route_scale=1"}},
    {"DeepSeekMoE, section 7.1",
     {"deepseek_moe_145b", "deepseek_moe_142b"},
     {"model.moe.balance_loss.coefficient=0.003", "model.moe.balance_loss.device_coefficient=0.05",
      "model.moe.num_devices=4"}},
    {"DeepSeek-V2, sections 2.2 and 3.1",
     {"deepseek_v2", "deepseek_v2_128k"},
     {"model.moe.balance_loss.coefficient=0.003", "model.moe.balance_loss.device_coefficient=0.05",
      "model.moe.balance_loss.communication_coefficient=0.02", "model.moe.router.num_groups=8",
      "model.moe.router.group_top_k=3", "model.moe.router.route_scale=16",
      "model.moe.capacity.policy=DEVICE_BUDGET", "model.moe.capacity.exempt_share=0.1"}},
    {"DeepSeek-V3, sections 2.1 and 4.2",
     {"deepseek_v3", "deepseek_v3_128k"},
     {"model.moe.balance_loss.coefficient=0.0001", "model.moe.router.score=SIGMOID",
      "model.moe.router.num_groups=8", "model.moe.router.group_top_k=4",
      "model.moe.router.group_score_experts=2", "model.moe.router.route_scale=2.5",
      "model.moe.capacity.policy=NO_DROP"}},
    {"DeepSeek-V3, section 4.2: until 14.3T tokens, until 10T",
     {"deepseek_v3"},
     {"model.moe.router.bias_update_rate=0.001", "model.mtp.weight=0.3"}},
    {"the same, afterwards",
     {"deepseek_v3_128k"},
     {"model.moe.router.bias_update_rate=0", "model.mtp.weight=0.1"}},
};

void expect_values(const std::vector<PublishedValues>& table) {
  for (const PublishedValues& published : table)
    for (const char* name : published.models) {
      const config::RunConfig run = preset_run(name, {}, 1);
      for (const char* value : published.values) {
        config::RunConfig as_published = run;
        ASSERT_EQ(config::apply_override(as_published, value), "");
        EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(run, as_published))
            << name << " has another value than " << value << ", which is in " << published.source;
      }
    }
}

TEST(CatalogValues, OfGooglesModelsAreThosePublished) { expect_values(kGoogle); }
TEST(CatalogValues, OfDecodersAreThosePublished) { expect_values(kDecoders); }
TEST(CatalogValues, OfDeepSeeksModelsAreThosePublished) { expect_values(kDeepSeek); }

// Pre-training was on 4096 tokens without YaRN; longer texts came after it.
TEST(CatalogValues, DeepSeekStretchesPositionsForLongerTextsOnly) {
  struct Extension {
    const char *before, *after;
    double scale;  // of the attention with YaRN
  };
  for (const Extension& extension :
       std::vector<Extension>{{"deepseek_v2", "deepseek_v2_128k", 0.114721},
                              {"deepseek_v2_lite", "deepseek_v2_lite_32k", 0.114721},
                              {"deepseek_v3", "deepseek_v3_128k", 1.873854 / std::sqrt(192)}}) {
    SCOPED_TRACE(extension.after);
    const config::Attention before = preset_run(extension.before, {}, 1).model().attention();
    config::Attention after = preset_run(extension.after, {}, 1).model().attention();
    EXPECT_FALSE(before.has_yarn());
    EXPECT_NEAR(before.scale(), 1 / std::sqrt(192), 1e-12);
    EXPECT_NEAR(after.scale(), extension.scale, 1e-6);
    EXPECT_EQ(after.yarn().factor(), 40);
    EXPECT_EQ(after.yarn().original_length(), 4096);
    after.clear_yarn();
    after.set_scale(before.scale());
    EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(before, after));
  }
  EXPECT_TRUE(preset_run("deepseek_v2_tiny", {}, 1).model().attention().has_yarn())
      << "no preset that the tests train has YaRN";
}

// 2 S / E slots per expert, in groups of S tokens as in the published runs and in smaller ones.
TEST(CatalogValues, GshardsCapacityBindsInItsGroups) {
  std::vector<const char*> models = kGshardMixtures;
  models.insert(models.end(), kGlamMixtures.begin(), kGlamMixtures.end());
  for (const char* name : models) {
    SCOPED_TRACE(name);
    const config::Moe moe = preset_run(name, {}, 1).model().moe();
    const int64_t experts = moe.num_experts();
    // The miniatures' groups are sequences.
    const int64_t group = std::max<int64_t>(moe.capacity().max_group_tokens(), experts);
    EXPECT_EQ(capacity_of(moe, /*training=*/true, group), 2 * group / experts);
    EXPECT_EQ(capacity_of(moe, /*training=*/true, group / 2), group / experts);
  }
}

TEST(CatalogValues, GshardsGroupsAreTheTokensOfACore) {
  constexpr int64_t kMillion = 1 << 20;
  const std::tuple<const char*, int64_t, int64_t> kRuns[] = {
      {"gshard_12_5b", kMillion, 128},     {"gshard_37b", kMillion, 128},
      {"gshard_50b", kMillion, 512},       {"gshard_150b", kMillion, 512},
      {"gshard_200b", 4 * kMillion, 2048}, {"gshard_600b", 4 * kMillion, 2048},
      {"gshard_1t", 4 * kMillion, 2048},   {"glam_64b_64e", kMillion, 1024}};
  for (const auto& [name, batch, cores] : kRuns)
    EXPECT_EQ(preset_run(name, {}, 1).model().moe().capacity().max_group_tokens(), batch / cores)
        << name;
}

TEST(CatalogValues, HeadersTellWhatIsPublishedFromWhatIsOurs) {
  for (const CatalogEntry& entry : catalog("configs")) {
    if (entry.source.empty()) continue;
    std::ifstream file("configs/models/" + entry.name + ".textproto");
    std::stringstream text;
    text << file.rdbuf();
    EXPECT_THAT(text.str(), HasSubstr("\n# Published: ")) << entry.name;
    EXPECT_THAT(text.str(), ::testing::ContainsRegex("[. ]Ours:")) << entry.name;
  }
}

}  // namespace
}  // namespace switchyard::models
