#include "core/config/validate.h"

#include <limits>

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>

#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using testing::HasSubstr;
using testing::IsEmpty;

class Validate : public ConfigFiles {
 protected:
  // The rules that break once `change` is set on the command line.
  std::string broken(const std::vector<std::string>& change, int num_ranks = 0) {
    return error(kSmallRun, change, num_ranks);
  }
};

TEST_F(Validate, AcceptsASoundConfig) {
  EXPECT_EQ(broken({}), "");
  EXPECT_EQ(broken({"runtime.compute=FP64", "mesh.expert=4"}, 8), "");
}

TEST_F(Validate, WordsAMessageWithPlaceExpectationValuesAndRemedy) {
  EXPECT_EQ(broken({"model.moe.top_k=9"}),
            "--set: model.moe.top_k (9) must be at most model.moe.num_experts (4); lower top_k or "
            "raise num_experts");
}

TEST_F(Validate, ChecksTheModel) {
  EXPECT_THAT(broken({"model.moe.top_k=0"}), HasSubstr("model.moe.top_k (0) must be at least 1"));
  EXPECT_THAT(broken({"model.attention.num_kv_heads=3"}),
              HasSubstr("num_kv_heads (3) must divide model.attention.num_heads (4)"));
  EXPECT_THAT(broken({"model.attention.head_dim=5"}), HasSubstr("head_dim (5) must be even"));
  EXPECT_THAT(broken({"model.moe.first_layer=2"}), HasSubstr("else no layer is MoE"));
  EXPECT_THAT(broken({"model.moe.first_layer=1"}),
              HasSubstr("model.d_ff is not set, and has no default"));
  EXPECT_THAT(broken({"model.moe.first_layer=1", "model.d_ff=0"}),
              HasSubstr("model.d_ff (0) must be at least 1, as 1 of 2 layers are dense"));
}

TEST_F(Validate, ChecksPositionsOfAttention) {
  const std::string relative = "model.attention.position=RELATIVE_BIAS";
  EXPECT_EQ(broken({relative}), "");
  EXPECT_THAT(broken({relative, "model.attention.yarn.factor=4"}),
              HasSubstr("it stretches RoPE; leave one of them out"));
  EXPECT_THAT(broken({relative, "model.attention.relative_bias.max_distance=16"}),
              HasSubstr("max_distance (16) must be above num_buckets / 2 (16)"));
  EXPECT_THAT(broken({"model.attention.yarn.beta_slow=40"}),
              HasSubstr("beta_slow (40) must be below beta_fast (32)"));
}

TEST_F(Validate, RefusesWhatLatentAttentionDoesNotHave) {
  const std::string latent = "model.attention.latent.kv_rank=8";
  EXPECT_EQ(broken({latent}), "");
  EXPECT_THAT(broken({latent, "model.attention.num_kv_heads=2"}),
              HasSubstr("num_kv_heads (2) must equal num_heads (4)"));
  EXPECT_THAT(broken({latent, "model.attention.latent.rope_dim=3"}),
              HasSubstr("rope_dim (3) must be even"));
  EXPECT_THAT(broken({latent, "model.attention.head_dim=64"}),
              HasSubstr("head_dim (64) must be latent.nope_dim + latent.rope_dim (128 + 64)"));
}

TEST_F(Validate, ChecksTheFormsOfExperts) {
  EXPECT_THAT(broken({"model.moe.stacking=DENSE_AFTER"}),
              HasSubstr("model.d_ff is not set, and has no default"));
  EXPECT_THAT(broken({"model.moe.stacking=DENSE_AFTER", "model.d_ff=0"}),
              HasSubstr("model.moe.stacking puts a dense FFN beside each MoE sub-layer"));
  EXPECT_EQ(broken({"model.moe.stacking=DENSE_AFTER", "model.d_ff=64"}), "");
  EXPECT_THAT(broken({"model.moe.expert_dropout=1"}),
              HasSubstr("expert_dropout (1) must be at least 0 and below 1"));
}

TEST_F(Validate, ChecksTheBatchAgainstTheRanks) {
  EXPECT_THAT(broken({"train.accumulation=3"}),
              HasSubstr("train.accumulation (3) must divide train.global_batch (8)"));
  EXPECT_THAT(broken({"train.accumulation=2"}, 8),
              HasSubstr("train.global_batch (8) / train.accumulation (2) = 4 must be divisible by "
                        "the number of data ranks (8)"));
  EXPECT_THAT(broken({"model.moe.capacity.group_sequences=4"}, 4),
              HasSubstr("group_sequences (4) must divide the 2 sequence(s)"));
}

TEST_F(Validate, BoundsWhatWouldOverflowOrNeverEnd) {
  EXPECT_THAT(broken({"runtime.threads=1000000"}),
              HasSubstr("runtime.threads (1000000) must be at most 4096"));
  EXPECT_THAT(broken({"data.synthetic.num_tokens=9223372036854775807"}),
              HasSubstr("data.synthetic.num_tokens (9223372036854775807) must be at most"));
  EXPECT_THAT(broken({"model.attention.qkv_clip=1e300"}),
              HasSubstr("qkv_clip (1e+300) must be at most 3.4"));
  const std::vector<std::string> spans = {"model.architecture=ENCODER_DECODER",
                                          "data.sequence_length=32"};
  const auto with = [&](const std::string& change) {
    auto overrides = spans;
    overrides.push_back("data.spans." + change);
    return broken(overrides);
  };
  EXPECT_EQ(with("mean_length=32"), "");
  EXPECT_THAT(with("mean_length=32.5"),
              HasSubstr("mean_length (32.5) must be at most data.sequence_length (32)"));
  EXPECT_EQ(with("density=0.99"), "");
  EXPECT_THAT(with("density=0.9999999"), HasSubstr("at most 0.99"));
  EXPECT_EQ(broken({"data.tokenizer=none"}).find("objective"), std::string::npos);
}

TEST_F(Validate, ChecksTheMesh) {
  EXPECT_THAT(broken({"mesh.expert=3"}), HasSubstr("must divide model.moe.num_experts (4)"));
  EXPECT_THAT(broken({"mesh.expert=4"}, 2), HasSubstr("must divide the number of ranks (2)"));
  EXPECT_THAT(
      broken({"mesh.data=2"}, 4),
      HasSubstr("mesh.data (2) must be 4, the number of ranks (4) divided by mesh.tensor (1)"));
  EXPECT_THAT(error(edited("moe { num_experts: 4 d_ff: 32 }", "d_ff: 32"), {"mesh.expert=2"}),
              HasSubstr("must be 1 or unset, as the model has no experts"));
}

TEST_F(Validate, ChecksTheOptimizer) {
  EXPECT_THAT(broken({"optimizer.min_lr=1"}), HasSubstr("min_lr (1) must be at most optimizer.lr"));
  EXPECT_THAT(broken({"optimizer.warmup_steps=11"}),
              HasSubstr("warmup_steps (11) must be at most train.steps (10)"));
  EXPECT_THAT(broken({"optimizer.beta1=1"}), HasSubstr("must be at least 0 and below 1"));
  EXPECT_THAT(broken({"optimizer.decay_fraction=2"}),
              HasSubstr("must be at least 0 and at most 1"));
  for (const std::string schedule : {"CONSTANT_THEN_DECAY", "INVERSE_SQRT"})
    EXPECT_EQ(broken({"optimizer.schedule=" + schedule, "optimizer.decay_fraction=0.3"}), "");
}

TEST_F(Validate, ChecksTheSources) {
  EXPECT_THAT(broken({"data.train[0].path=x"}), HasSubstr("must not be set together"));
  const std::string two = edited("synthetic {}", "train { path: \"a/x\" } train { path: \"b/x\" }");
  EXPECT_THAT(error(two),
              HasSubstr("data.train[1].name (\"x\") must be unique, but data.train[0]"));
  EXPECT_THAT(error(two, {"data.train[0].weight=0", "data.train[0].name=y"}),
              HasSubstr("data.train[0].weight (0) must be finite and above 0"));
  EXPECT_THAT(error(edited("synthetic {}", "")), HasSubstr("data.train is empty"));
}

TEST_F(Validate, ChecksSyntheticText) {
  const std::string domains = "data.synthetic.kind=DOMAIN_BIGRAMS";
  EXPECT_EQ(broken({domains}), "");
  EXPECT_THAT(broken({domains, "data.synthetic.num_domains=257"}),
              HasSubstr("model.vocab_size (264) must exceed data.synthetic.num_domains (257) by at "
                        "least 8 words"));
  EXPECT_THAT(broken({"model.vocab_size=3"}), HasSubstr("model.vocab_size (3) must be at least 4"));
}

TEST_F(Validate, ConfinesNames) {
  for (const std::string name : {"../x", "a/b", "-rf", ".", "", "a\nb", "..", "x..y"})
    EXPECT_THAT(broken({"name=" + name}), HasSubstr("must be 1 to 128 characters")) << name;
  EXPECT_THAT(broken({std::string("output_dir=a\0b", 14)}), HasSubstr("output_dir (\"a\\x00b\")"));
}

TEST_F(Validate, RefusesSizesWhoseProductsOverflow) {
  EXPECT_THAT(broken({"model.d_model=2000000000", "model.moe.d_ff=2000000000",
                      "model.moe.num_experts=2000000000"}),
              HasSubstr("num_layers * num_experts * 3 * d_model * d_ff = 4.8e+28 must be below"));
  EXPECT_THAT(broken({"train.global_batch=2000000", "data.sequence_length=2000"}),
              HasSubstr("sequence_length * top_k = 8e+09 must be below"));
  EXPECT_THAT(
      broken({"model.moe.hidden_layers=1000000001", "model.moe.d_ff=1000000"}),
      HasSubstr("num_layers * num_experts * (hidden_layers - 1) * d_ff * d_ff = 8e+21 must"));
  EXPECT_THAT(broken({"model.mtp.weight=0.3", "model.d_model=1000000000"}),
              HasSubstr("model.mtp is too large: 2 * d_model * d_model = 2e+18 must be below"));
  EXPECT_THAT(broken({"model.attention.switch_projections=true", "model.d_model=1000000000",
                      "model.moe.num_experts=1000000000"}),
              HasSubstr("num_layers * num_experts * 3 * d_model * num_heads * head_dim = 6e+27"));
}

TEST_F(Validate, RefusesSizesOfEarlyModelsWhoseProductsOverflow) {
  const std::string lstm = "model.architecture=LSTM_LM";
  EXPECT_THAT(broken({lstm, "model.lstm.hidden=1000000000"}),
              HasSubstr("model.lstm.hidden is too large: 4 * hidden = 4e+09 must be below"));
  EXPECT_THAT(broken({lstm, "model.lstm.hidden=500000000", "model.d_model=100000000"}),
              HasSubstr("num_layers * 9 * hidden * d_model = 9e+17 must be below"));
  EXPECT_THAT(error(kTableRun, {"model.local_experts.num_experts=2000000000",
                                "model.local_experts.hidden_units=2000000000"}),
              HasSubstr("num_experts * hidden_units * (d_model + vocab_size) = 1.6e+19 must be"));
  EXPECT_THAT(
      error(kTableRun, {"model.local_experts.num_experts=2000000000", "model.d_model=2000000000"}),
      HasSubstr("num_experts * d_model * vocab_size = 8e+18 must be below"));
}

// Sets every number of the schema, one at a time, to a value that no rule allows.
void expect_range_rules(Message& group, const std::string& prefix, RunConfig& config) {
  const auto& reflection = *group.GetReflection();
  for (int i = 0; i < group.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = group.GetDescriptor()->field(i);
    const std::string path = prefix + field->name();
    if (field->is_repeated()) continue;  // sources have tests of their own
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      expect_range_rules(*reflection.MutableMessage(&group, field), path + ".", config);
      continue;
    }
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT32)
      reflection.SetInt32(&group, field, -1);
    else if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64)
      reflection.SetInt64(&group, field, -1);
    else if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE)
      reflection.SetDouble(&group, field, std::numeric_limits<double>::quiet_NaN());
    else
      continue;
    EXPECT_THAT(broken_rules(config, 0), testing::Contains(HasSubstr(path + " ("))) << path;
    reflection.ClearField(&group, field);
  }
}

TEST_F(Validate, RefusesRecordsOfTheLoadBetweenTheLogsOwn) {
  EXPECT_THAT(broken({"log.every=20", "log.load_every=50"}),
              HasSubstr("log.load_every (50) must be a multiple of log.every (20)"));
  EXPECT_EQ(broken({"log.every=20", "log.load_every=0"}), "");
  EXPECT_THAT(broken({"init_from=-x"}), HasSubstr("init_from (\"-x\") must be a path"));
}

TEST_F(Validate, HasARangeForEveryNumberOfTheSchema) {
  RunConfig config;
  expect_range_rules(config, "", config);
}

TEST_F(Validate, RefusesFieldsThatTheOptimizerDoesNotUse) {
  EXPECT_THAT(broken({"optimizer.kind=ADAFACTOR", "optimizer.adafactor.update_clip=0"}),
              HasSubstr("update_clip (0) must be finite and above 0"));
  EXPECT_EQ(broken({"optimizer.kind=SGD", "optimizer.momentum=0.9"}), "");
  EXPECT_EQ(broken({"optimizer.kind=ADAM_FACTORED_EXPERTS"}), "");
}

TEST_F(Validate, RefusesFieldsThatTheInitializerDoesNotUse) {
  EXPECT_THAT(broken({"model.initializer=UNIFORM", "model.init_range=0"}),
              HasSubstr("model.init_range (0) must be finite and above 0"));
  EXPECT_EQ(broken({"model.initializer=TRUNCATED_NORMAL", "model.init_scale=0.1"}), "");
}

}  // namespace
}  // namespace switchyard::config
