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
  EXPECT_THAT(broken({"model.dropout=1"}), HasSubstr("model.dropout (1) must be at least 0"));
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
}

TEST_F(ValidateArchitecture, RefusesWhatALstmLanguageModelDoesNotRead) {
  for (const std::string change : {"ffn=RELU", "ffn_bias=ADDITIVE", "tie_embeddings=true",
                                   "scale_init_by_depth=false", "init_std=0.1"})
    EXPECT_EQ(error(lstm_run(), {"model." + change}), "") << change;
}

TEST_F(ValidateArchitecture, RefusesAFfnWhereAnLstmLanguageModelHasNone) {
  const std::string dense =
      "model { architecture: LSTM_LM num_layers: 1 d_model: 8 vocab_size: 64 }\n"
      "data { synthetic {} }\ntrain { steps: 1 global_batch: 1 }\n";
  EXPECT_EQ(error(dense), "");
}

TEST_F(ValidateArchitecture, ChecksTheEncoderDecoder) {
  const std::string architecture = "model.architecture=ENCODER_DECODER";
  EXPECT_EQ(broken({architecture}), "");
  EXPECT_THAT(broken({architecture, "data.sequence_length=3"}),
              HasSubstr("data.sequence_length (3) must be at least 4"));
  EXPECT_THAT(broken({architecture, "data.spans.density=1"}),
              HasSubstr("data.spans.density (1) must be above 0 and at most 0.99"));
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
  EXPECT_THAT(error(kTableRun, {"runtime.compute=BF16"}),
              HasSubstr("runtime.compute (BF16) must be FP32 or FP64"));
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
  EXPECT_THAT(error(kTableRun, {"train.recompute=RECOMPUTE_LAYER"}),
              HasSubstr("train.recompute (RECOMPUTE_LAYER) must be RECOMPUTE_NONE"));
  EXPECT_THAT(error(kTableRun, {"data.validation[0].path=x"}),
              HasSubstr("data.table must not be set together with"));
}

}  // namespace
}  // namespace switchyard::config
