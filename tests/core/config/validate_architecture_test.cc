// What each architecture needs, and that it refuses what it would not read.

#include <gmock/gmock.h>

#include "core/config/validate.h"
#include "tests/core/config/config_files.h"

namespace switchyard::config {
namespace {

using testing::HasSubstr;

class ValidateArchitecture : public ConfigFiles {
 protected:
  // The rules that break once `change` is set on the command line.
  std::string broken(const std::vector<std::string>& change) { return error(kSmallRun, change); }
};

TEST_F(ValidateArchitecture, RefusesWhatTheArchitectureDoesNotUse) {
  EXPECT_THAT(broken({"model.lstm.hidden=8"}),
              HasSubstr("model.lstm is set, but model.architecture DECODER does not use it; leave "
                        "it out or set LSTM_LM"));
  EXPECT_THAT(broken({"model.local_experts.num_experts=2"}),
              HasSubstr("model.local_experts is set, but model.architecture DECODER"));
  EXPECT_THAT(broken({"train.stop_below_error=0.1"}),
              HasSubstr("train.stop_below_error is set, but model.architecture DECODER"));
  EXPECT_THAT(broken({"model.dropout=0.1"}), HasSubstr("model.architecture DECODER has none"));
  EXPECT_THAT(broken({"model.dropout=1"}), HasSubstr("model.dropout (1) must be at least 0"));
  EXPECT_THAT(broken({"model.architecture=LSTM_LM", "model.mtp.weight=0.3"}),
              HasSubstr("model.mtp is set, but model.architecture LSTM_LM does not use it"));
  EXPECT_THAT(broken({"data.objective=TRANSLATION"}),
              HasSubstr("data.objective (TRANSLATION) does not suit model.architecture DECODER"));
  EXPECT_THAT(broken({"data.spans.density=0.2"}),
              HasSubstr("data.spans is set, but objective NEXT_TOKEN hides none"));
  EXPECT_THAT(broken({"data.target_length=8"}),
              HasSubstr("data.target_length (8) is set, but objective NEXT_TOKEN"));
}

TEST_F(ValidateArchitecture, TakesDropoutOfDenseFfnsWhereThereAreSome) {
  const std::string dense = edited("moe { num_experts: 4 d_ff: 32 }", "d_ff: 32");
  const auto rate = [&](const std::string& text, const std::vector<std::string>& change) {
    const Model model = load_config(run(text), change).model();
    return model.has_ffn_dropout() ? model.ffn_dropout() : -1;
  };
  const std::string t5 = "model.architecture=ENCODER_DECODER", half = "model.dropout=0.5";
  EXPECT_EQ(rate(dense, {}), 0);
  EXPECT_EQ(rate(dense, {"model.ffn_dropout=0.25"}), 0.25);
  EXPECT_EQ(rate(dense, {t5, half}), 0.5);
  EXPECT_EQ(rate(dense, {t5, half, "model.ffn_dropout=0"}), 0);
  EXPECT_EQ(rate(kSmallRun, {t5, half}), -1);
  EXPECT_EQ(rate(kSmallRun, {t5, half, "model.d_ff=32", "model.moe.stacking=DENSE_AFTER"}), 0.5);
  EXPECT_THAT(error(dense, {"model.ffn_dropout=1"}),
              HasSubstr("model.ffn_dropout (1) must be at least 0 and below 1"));
  EXPECT_THAT(broken({"model.ffn_dropout=0.1"}),
              HasSubstr("model.ffn_dropout (0.1) must not be set where no layer has a dense FFN"));
  EXPECT_THAT(broken({"model.ffn_dropout=0.1", "model.moe.every_n_layers=0"}),
              HasSubstr("every_n_layers (0) must be at least 1"));
}

TEST_F(ValidateArchitecture, ChecksLearnedPositions) {
  const std::string learned = "model.attention.position=LEARNED_POSITIONS";
  EXPECT_EQ(load_config(run(kSmallRun), {learned}).model().attention().max_positions(), 32);
  EXPECT_EQ(broken({learned, "model.attention.max_positions=40"}), "");
  EXPECT_THAT(broken({learned, "model.attention.max_positions=31"}),
              HasSubstr("data.sequence_length (32) must be at most model.attention.max_positions "
                        "(31)"));
  EXPECT_THAT(broken({learned, "model.attention.max_positions=0"}),
              HasSubstr("model.attention.max_positions (0) must be at least 1"));
  EXPECT_THAT(broken({"model.attention.max_positions=64"}),
              HasSubstr("max_positions (64) is set, but only position LEARNED_POSITIONS has"));
  EXPECT_THAT(broken({learned, "model.attention.yarn.factor=2"}),
              HasSubstr("yarn must not be set with position LEARNED_POSITIONS"));
  EXPECT_THAT(broken({learned, "model.attention.relative_bias.num_buckets=8"}),
              HasSubstr("relative_bias must not be set with position LEARNED_POSITIONS"));
  EXPECT_THAT(broken({learned, "model.attention.latent.kv_rank=8"}),
              HasSubstr("model.attention.position must not be set with model.attention.latent"));
  EXPECT_THAT(broken({learned, "model.architecture=ENCODER_DECODER"}),
              HasSubstr("attention.position (LEARNED_POSITIONS) must not be used with architecture "
                        "ENCODER_DECODER"));
  EXPECT_THAT(broken({learned, "model.architecture=LSTM_LM"}),
              HasSubstr("attention must not be used with architecture LSTM_LM"));
}

// kSmallRun as an LSTM language model.
std::string lstm_run() {
  const std::string heads = "attention { num_heads: 4 }", lstm = "architecture: LSTM_LM";
  std::string text = kSmallRun;
  return text.replace(text.find(heads), heads.size(), lstm);
}

TEST_F(ValidateArchitecture, ChecksTheLstmLanguageModel) {
  EXPECT_EQ(error(lstm_run()), "");
  EXPECT_THAT(error(lstm_run(), {"model.lstm.sampled_softmax=264"}),
              HasSubstr("sampled_softmax (264) must be below model.vocab_size (264)"));
  EXPECT_THAT(
      error(lstm_run(), {"model.lstm.sampled_softmax=8", "model.output_z_loss_coefficient=1"}),
      HasSubstr("must be 0 or unset with model.lstm.sampled_softmax (8)"));
}

TEST_F(ValidateArchitecture, RefusesWhatALstmLanguageModelDoesNotRead) {
  for (const std::string change :
       {"attention.num_heads=4", "norm=RMS_NORM", "norm_cast=SCALE_THEN_CAST", "norm_eps=1e-5",
        "sandwich_norm=true", "embedding_scale=2", "output_scale=2", "d_ff=64",
        "moe.stacking=DENSE_BEFORE"})
    EXPECT_THAT(error(lstm_run(), {"model." + change}),
                HasSubstr("must not be used with architecture LSTM_LM"))
        << change;
  for (const std::string change : {"ffn=RELU", "ffn_bias=ADDITIVE", "tie_embeddings=true",
                                   "scale_init_by_depth=false", "init_std=0.1"})
    EXPECT_EQ(error(lstm_run(), {"model." + change}), "") << change;
}

TEST_F(ValidateArchitecture, RefusesAFfnWhereAnLstmLanguageModelHasNone) {
  const std::string dense =
      "model { architecture: LSTM_LM num_layers: 1 d_model: 8 vocab_size: 64 }\n"
      "data { synthetic {} }\ntrain { steps: 1 global_batch: 1 }\n";
  EXPECT_EQ(error(dense), "");
  for (const std::string change : {"ffn=RELU", "ffn_bias=ADDITIVE"})
    EXPECT_THAT(error(dense, {"model." + change}), HasSubstr("without model.moe it has no FFN"))
        << change;
}

TEST_F(ValidateArchitecture, ChecksTheEncoderDecoder) {
  const std::string architecture = "model.architecture=ENCODER_DECODER";
  EXPECT_EQ(broken({architecture}), "");
  EXPECT_THAT(broken({architecture, "data.sequence_length=3"}),
              HasSubstr("data.sequence_length (3) must be at least 4"));
  EXPECT_THAT(broken({architecture, "model.attention.relative_bias.num_buckets=3"}),
              HasSubstr("num_buckets (3) must be at least 4 with architecture ENCODER_DECODER"));
  EXPECT_THAT(broken({architecture, "data.spans.density=1"}),
              HasSubstr("data.spans.density (1) must be above 0 and at most 0.99"));
  EXPECT_THAT(broken({architecture, "data.objective=TRANSLATION"}),
              HasSubstr("objective TRANSLATION needs pairs of texts"));
  for (const char* change :
       {"model.attention.qkv_bias=true", "model.attention.qkv_clip=8",
        "model.attention.qk_norm=PER_HEAD", "model.attention.sliding_window=8",
        "model.attention.latent.kv_rank=8", "model.attention.position=ROPE",
        "model.attention.relative_bias.shared=false", "model.sandwich_norm=true",
        "model.embedding_scale=2", "model.output_scale=2"}) {
    EXPECT_THAT(broken({architecture, change}),
                HasSubstr("must not be used with architecture ENCODER_DECODER"))
        << change;
  }
}

TEST_F(ValidateArchitecture, LeavesGeneratedWordsBesideTheSentinels) {
  const std::vector<std::string> long_input{"model.architecture=ENCODER_DECODER",
                                            "data.sequence_length=256"};
  const auto with_vocabulary = [&](const char* size) {
    std::vector<std::string> changes = long_input;
    changes.push_back(std::string("model.vocab_size=") + size);
    return broken(changes);
  };
  EXPECT_THAT(with_vocabulary("12"),
              HasSubstr("model.vocab_size (12) must be at least 18: objective SPAN_CORRUPTION "
                        "takes 14 ids as the sentinels of 256 tokens"));
  EXPECT_THAT(with_vocabulary("17"), HasSubstr("must be at least 18"));
  EXPECT_EQ(with_vocabulary("18"), "");
}

TEST_F(ValidateArchitecture, ChecksLocalExperts) {
  EXPECT_EQ(error(kTableRun), "");
  EXPECT_THAT(error(kTableRun, {"model.d_model=3"}),
              HasSubstr("model.d_model (3) must be the number of data.table.features (2)"));
  EXPECT_THAT(error(kTableRun, {"model.vocab_size=3"}),
              HasSubstr("model.vocab_size (3) must be the number of data.table.classes (2)"));
  EXPECT_THAT(error(kTableRun, {"data.sequence_length=2"}),
              HasSubstr("data.sequence_length (2) must be 1 or unset"));
  EXPECT_THAT(error(kTableRun, {"data.synthetic.num_tokens=9"}),
              HasSubstr("data.table must not be set together with"));
  EXPECT_THAT(error(kTableRun, {"runtime.compute=BF16"}),
              HasSubstr("runtime.compute (BF16) must be FP32 or FP64"));
  EXPECT_THAT(error(kTableRun, {"model.moe.num_experts=4", "model.moe.d_ff=4"}),
              HasSubstr("model.moe is set, but model.architecture LOCAL_EXPERTS"));
  EXPECT_THAT(error(kTableRun, {"model.output_z_loss_coefficient=1e-4"}),
              HasSubstr("LOCAL_EXPERTS, which has no vocabulary"));
  EXPECT_THAT(broken({"model.architecture=LOCAL_EXPERTS"}), HasSubstr("data.table is not set"));
  EXPECT_THAT(
      error("model { architecture: LOCAL_EXPERTS }\ndata { table { features: \"F\" classes: "
            "\"a\" } }\ntrain { steps: 1 global_batch: 1 }\n"),
      HasSubstr("data.table.path is not set"));
}

TEST_F(ValidateArchitecture, LocalExpertsMayStartByAnyInitializer) {
  for (const std::string kind : {"NORMAL", "TRUNCATED_NORMAL", "UNIFORM"})
    EXPECT_EQ(error(kTableRun, {"model.initializer=" + kind}), "") << kind;
}

TEST_F(ValidateArchitecture, RefusesWhatLocalExpertsDoNotRead) {
  for (const std::string change :
       {"attention.num_heads=4", "norm=RMS_NORM", "norm_cast=SCALE_THEN_CAST", "norm_eps=1e-5",
        "sandwich_norm=true", "embedding_scale=2", "output_scale=2", "d_ff=64", "ffn=RELU",
        "ffn_bias=ADDITIVE", "num_layers=2", "tie_embeddings=false"})
    EXPECT_THAT(error(kTableRun, {"model." + change}),
                HasSubstr("must not be used with architecture LOCAL_EXPERTS"))
        << change;
  EXPECT_THAT(error(kTableRun, {"train.recompute=RECOMPUTE_LAYER"}),
              HasSubstr("train.recompute (RECOMPUTE_LAYER) must be RECOMPUTE_NONE"));
  EXPECT_THAT(error(kTableRun, {"data.validation[0].path=x"}),
              HasSubstr("data.table must not be set together with"));
}

}  // namespace
}  // namespace switchyard::config
