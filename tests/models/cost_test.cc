#include "models/inspect/cost.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "core/base/errors.h"
#include "core/config/reader.h"
#include "models/inspect/describe.h"

namespace switchyard::models {
namespace {

using testing::HasSubstr;
using testing::Not;

config::RunConfig load(const std::string& name, const std::vector<std::string>& overrides = {}) {
  return config::load_config("configs/" + name + ".textproto", overrides);
}

Component part(const Census& counts, const std::string& name) {
  for (const Component& component : counts.components)
    if (component.name == name) return component;
  return {name, 0, 0, 0, 0};
}

// Hand arithmetic: 4 layers, D 256, 4 heads of 64 (2 key/value), 8 experts of width 608, V 8192.
TEST(Census, MatchesHandArithmeticOnTheQuickstartModel) {
  const Census counts = census(load("quickstart").model());
  EXPECT_EQ(part(counts, "embedding").total, 2'097'152);  // 8192 * 256
  EXPECT_EQ(part(counts, "attention").total, 786'432);    // 4 * (2 * 256 * 256 + 2 * 256 * 128)
  EXPECT_EQ(part(counts, "router").total, 8'192);         // 4 * 8 * 256
  EXPECT_EQ(part(counts, "experts").total, 14'942'208);   // 4 * 8 * 3 * 256 * 608
  EXPECT_EQ(part(counts, "experts").active, 3'735'552);   // a quarter
  EXPECT_EQ(part(counts, "norms").total, 2'304);          // 9 * 256
  EXPECT_EQ(part(counts, "output").total, 2'097'152);     // 8192 * 256
  EXPECT_EQ(counts.total, 19'933'440);
  EXPECT_EQ(counts.active, 8'726'784);
}

TEST(Census, CountsDenseLayersSharedExpertsAndAnUntiedOutput) {
  const Census counts = census(
      load("quickstart", {"model.tie_embeddings=false", "model.moe.first_layer=1", "model.d_ff=100",
                          "model.moe.shared_expert.count=2", "model.moe.shared_expert.d_ff=10"})
          .model());
  EXPECT_EQ(part(counts, "output").total, 2'097'152);
  EXPECT_EQ(part(counts, "experts").total, 11'206'656);     // 3 layers
  EXPECT_EQ(part(counts, "dense_ffn").total, 76'800);       // 1 * 3 * 256 * 100
  EXPECT_EQ(part(counts, "shared_expert").active, 46'080);  // 3 * 3 * 256 * 20
}

TEST(Census, CountsLearnedPositionsAsAnEmbedding) {
  const std::vector<std::string> learned = {"model.attention.position=LEARNED_POSITIONS",
                                            "model.attention.max_positions=300"};
  const config::RunConfig plain = load("quickstart"), with_table = load("quickstart", learned);
  EXPECT_EQ(part(census(with_table.model()), "embedding").total, 2'097'152 + 300 * 256);
  EXPECT_EQ(census(with_table.model()).total, 19'933'440 + 300 * 256);
  // Looked up, not multiplied.
  EXPECT_EQ(flops_per_token(with_table.model(), {256}), flops_per_token(plain.model(), {256}));
}

TEST(Census, CountsMultiTokenPredictionByItself) {
  const Census counts = census(load("quickstart", {"model.mtp.weight=0.3"}).model());
  EXPECT_EQ(counts.total, 19'933'440);
  // A layer: 196'608 + 2'048 + 3'735'552 + 2 * 256; 2 * 256 * 256 of projection, 3 more norms.
  EXPECT_EQ(counts.training_only.total, 4'066'560);
  EXPECT_EQ(counts.training_only.active, 4'066'560 - 2'801'664);
  const auto text = inspect_config(load("quickstart", {"model.mtp.weight=0.3"}), 1, false);
  EXPECT_THAT(text, HasSubstr("4,066,560             1,264,896  (in training, not in the sum)"));
}

TEST(Census, CountsTwoMatrixExpertsBiasesGatesAndStackedLayers) {
  const Census counts =
      census(load("quickstart",
                  {"model.moe.ffn=RELU", "model.ffn_bias=MULTIPLICATIVE",
                   "model.moe.stacking=DENSE_AFTER", "model.d_ff=100",
                   "model.moe.shared_expert.d_ff=10", "model.moe.shared_expert.sigmoid_gate=true"})
                 .model());
  EXPECT_EQ(part(counts, "experts").total, 9'980'928);     // 4 * 8 * (2 * 256 + 1) * 608
  EXPECT_EQ(part(counts, "experts").active, 2'495'232);    // a quarter
  EXPECT_EQ(part(counts, "dense_ffn").total, 307'600);     // 4 * (3 * 256 + 1) * 100
  EXPECT_EQ(part(counts, "shared_expert").total, 21'544);  // 4 * (2 * 256 * 10 + 10 + 256)
  EXPECT_EQ(part(counts, "norms").total, 3'328);           // 13 * 256
}

// 32 layers, D 4096, 32 heads of 128 (8 key/value), 8 experts of 14336: known as 46.7B / 12.9B.
TEST(Census, MatchesThePublishedCountsOfMixtral8x7b) {
  const Census counts = census(
      load("quickstart", {"model.num_layers=32", "model.d_model=4096", "model.vocab_size=32000",
                          "model.attention.num_heads=32", "model.attention.num_kv_heads=8",
                          "model.moe.d_ff=14336", "model.tie_embeddings=false"})
          .model());
  EXPECT_EQ(counts.total, 46'702'792'704);
  EXPECT_EQ(counts.active, 12'879'925'248);
}

// Switch-C's size: nothing overflows.
TEST(Census, CountsTrillionsOfParameters) {
  const Census counts =
      census(load("quickstart", {"model.num_layers=61", "model.d_model=7168", "model.moe.d_ff=2048",
                                 "model.moe.num_experts=600", "model.moe.top_k=8", "mesh.expert=1"})
                 .model());
  EXPECT_GT(counts.total, 1'600'000'000'000);
  EXPECT_EQ(part(counts, "experts").total, int64_t{61} * 600 * 3 * 7168 * 2048);
}

// Published model FLOP per token at sequence length 4096, causal attention.
TEST(Flops, MatchPublishedFiguresWithinHalfAPercent) {
  struct Published {
    int layers, d_model, heads, kv_heads, experts, top_k, d_ff, vocabulary;
    double gigaflops;
  };
  for (const Published& model :
       {Published{32, 4096, 32, 8, 8, 2, 14336, 32000, 79.7},        // Mixtral 8x7B
        Published{56, 6144, 48, 8, 8, 2, 16384, 32768, 242.2},       // Mixtral 8x22B
        Published{48, 2048, 32, 4, 128, 8, 768, 151936, 23.08},      // Qwen3-30B-A3B
        Published{94, 4096, 64, 4, 128, 8, 1536, 151936, 148.3}}) {  // Qwen3-235B-A22B
    const config::RunConfig config =
        load("quickstart", {fmt::format("model.num_layers={}", model.layers),
                            fmt::format("model.d_model={}", model.d_model),
                            fmt::format("model.attention.num_heads={}", model.heads),
                            fmt::format("model.attention.num_kv_heads={}", model.kv_heads),
                            "model.attention.head_dim=128",
                            fmt::format("model.moe.num_experts={}", model.experts),
                            fmt::format("model.moe.top_k={}", model.top_k),
                            fmt::format("model.moe.d_ff={}", model.d_ff),
                            fmt::format("model.vocab_size={}", model.vocabulary)});
    EXPECT_NEAR(flops_per_token(config.model(), {4096}) / 1e9, model.gigaflops,
                0.005 * model.gigaflops);
  }
}

TEST(Flops, AreEqualForTheDenseTwinButForTheRouter) {
  const config::Model moe = load("quickstart").model(), dense = load("quickstart_dense").model();
  const double router = 3.0 * 4 * 2 * 256 * 8;
  EXPECT_EQ(flops_per_token(moe, {256}), flops_per_token(dense, {256}) + router);
}

// Two layers each of D 256, 4 heads of 64; one of two FFNs is top-2 of 8 experts; all 512 wide.
TEST(Flops, OfAnEncoderDecoderCountEachSideByItsLength) {
  const config::RunConfig config =
      load("translation", {"data.sequence_length=100", "data.target_length=50"});
  const double square = 256 * 256, ffns = 3 * 2 * 256 * 512 + 8 * 256;
  const double source = 8 * square + ffns + 4 * square;  // with keys and values for the decoder
  const double target = 8 * square + 4 * square + ffns + 256 * 8192;
  const double scores = 2 * 2.0 * 4 * 128 * (100 + 50 + 12.5);
  EXPECT_EQ(flops_per_token(config.model(), sequence_lengths(config)),
            3 * (2 * (source + 0.5 * target) + scores));
  const config::RunConfig spans = load("span_corruption", {"data.sequence_length=512"});
  EXPECT_EQ(sequence_lengths(spans).target, 114);
}

// Two formants, four vowels, four linear experts that all see each case: 4 x 4 x 2 and 4 x 4
// biases; a gate of 4 x 2 and 4.
TEST(Census, CountsTheLocalExpertsWithoutVocabularyOrLayers) {
  const config::RunConfig config = load("vowels");
  const Census counts = census(config.model());
  EXPECT_EQ(part(counts, "experts").active, 48);
  EXPECT_EQ(part(counts, "gate").total, 12);
  EXPECT_EQ(counts.total, 60);
  double forward = 0;
  for (const FlopTerm& term : forward_flops(config.model(), sequence_lengths(config))) {
    EXPECT_TRUE(term.name == "experts" || term.name == "gate") << term.name;
    forward += term.flops;
  }
  EXPECT_EQ(forward, 2 * (4 * 4 * 2 + 4 * 2));
  EXPECT_THAT(inspect_config(config, 1, false),
              HasSubstr("4 expert(s) without a hidden layer, blended by a gate; 2 features, 4 "
                        "classes\n"));
  EXPECT_THAT(inspect_config(load("vowels_backprop"), 1, false),
              HasSubstr("1 expert(s) of 6 hidden units; 2 features, 4 classes\n"));
}

TEST(Memory, CutsOnlyTheExpertsOverTheExpertDegree) {
  const config::RunConfig config = load("quickstart");
  config::RunConfig wide = config;
  wide.mutable_runtime()->set_compute(config::FP32);
  const int64_t whole = 19'933'440, experts = 14'942'208;
  EXPECT_EQ(memory_per_rank(wide, MeshShape()).total_bytes(), whole * 16);
  EXPECT_EQ(memory_per_rank(config, MeshShape()).total_bytes(), whole * 18);
  EXPECT_EQ(memory_per_rank(config, MeshShape({.data = 4, .expert = 4})).parameters,
            whole - experts * 3 / 4);
}

TEST(Memory, OfAShardedOptimizerFallsAsDataRanksRise) {
  config::RunConfig config = load("quickstart");  // in bfloat16, with AdamW
  config.mutable_optimizer()->set_sharded(true);
  const double whole = 19'933'440, experts = 14'942'208;
  const auto bytes = [&](const MeshDegrees& degrees) {
    return static_cast<double>(memory_per_rank(config, MeshShape(degrees)).total_bytes());
  };
  EXPECT_EQ(bytes({}), whole * 18);
  EXPECT_EQ(bytes({.data = 4}), whole * (6 + 12.0 / 4));
  EXPECT_EQ(bytes({.data = 8, .expert = 2}),
            (whole - experts) * (6 + 12.0 / 8) + experts / 2 * (6 + 12.0 / 4));
}

// Whole parameters: the largest share is above the mean, by less than the largest parameter.
TEST(Memory, OfDealtParametersIsThatOfTheRankThatOwnsMost) {
  config::RunConfig config = load("quickstart");
  config.mutable_optimizer()->set_kind(config::ADAM_FACTORED_EXPERTS);
  config.mutable_optimizer()->set_sharded(true);
  const auto masters = [&](const MeshDegrees& degrees) {
    return memory_per_rank(config, MeshShape(degrees)).master_bytes;
  };
  const int64_t whole = masters({});
  EXPECT_GE(masters({.data = 4}), whole / 4);
  EXPECT_LT(masters({.data = 4}), whole / 3);
}

TEST(Losses, AreStatedAsFormulasWithTheirScope) {
  const std::string text = describe_losses(load("quickstart"));
  EXPECT_THAT(text,
              HasSubstr("lm      = mean over all target tokens of the step of -log p(target)"));
  EXPECT_THAT(text, HasSubstr("balance = 0.01 * sum over 4 router(s) of 8 * sum_i f_i P_i"));
  EXPECT_THAT(text, HasSubstr("share of the T*2 assignments that ask for expert i"));
  EXPECT_THAT(
      text,
      HasSubstr("f over the T tokens on all ranks of the step's micro-batches up to this one, P "
                "over this one's"));
  EXPECT_THAT(text, HasSubstr("z       = 0.001 * sum over 4 router(s) of the mean"));
}

TEST(Losses, LeaveOutWhatIsOff) {
  const std::string off = describe_losses(load(
      "quickstart", {"model.moe.balance_loss.coefficient=0", "model.moe.z_loss_coefficient=0"}));
  EXPECT_THAT(off, Not(HasSubstr("balance")));
  EXPECT_THAT(off, Not(HasSubstr("z  ")));
  EXPECT_THAT(describe_losses(load("quickstart_dense")), Not(HasSubstr("balance")));
}

TEST(Losses, StateThoseOfTheOutput) {
  const std::string text = describe_losses(
      load("quickstart", {"model.output_z_loss_coefficient=1e-4", "model.mtp.weight=0.3"}));
  EXPECT_THAT(text, HasSubstr("output_z = 0.0001 * mean over all target tokens of the step of "
                              "logsumexp(output logits)^2"));
  EXPECT_THAT(text, HasSubstr("mtp     = 0.3 * sum over the step of -log p(token after the next)"));
  EXPECT_THAT(text, HasSubstr("sum over 5 router(s)"));
}

TEST(Losses, NameFirstChoicesAndGroupsWhereTheyAreUsed) {
  const std::string text =
      describe_losses(load("quickstart", {"model.moe.balance_loss.load=FIRST_CHOICE",
                                          "model.moe.balance_loss.statistics=PER_GROUP",
                                          "model.moe.capacity.group_sequences=2"}));
  EXPECT_THAT(text, HasSubstr("share of the tokens whose first choice is expert i"));
  EXPECT_THAT(text, HasSubstr("each routing group of 2 sequence(s), then the mean over groups"));
}

TEST(Losses, SayThatThoseOfARankDependOnTheirNumber) {
  EXPECT_THAT(describe_losses(load("quickstart", {"model.moe.balance_loss.statistics=PER_RANK"})),
              HasSubstr("of a rank's micro-batch, then the mean over ranks; mean over the step's "
                        "micro-batches; another loss for each number of ranks"));
}

TEST(Losses, SayThatAnEncoderWhoseExpertsChooseHasNone) {
  EXPECT_THAT(describe_losses(load("span_corruption", {"model.moe.router.selection=EXPERT_CHOICE",
                                                       "model.moe.capacity.policy=BY_PROBABILITY",
                                                       "model.moe.router.second_choice=ALWAYS"})),
              AllOf(HasSubstr("balance = 0.01 * sum over"),
                    HasSubstr("0 for the encoder's routers, whose experts choose")));
}

TEST(Losses, StateHowLayersAreTakenTogether) {
  EXPECT_THAT(describe_losses(load("quickstart", {"model.moe.layer_aggregation=MEAN_OVER_LAYERS"})),
              HasSubstr("balance = 0.01 * mean over 4 router(s) of 8 * sum_i f_i P_i"));
  EXPECT_THAT(describe_losses(load("quickstart", {"model.moe.layer_aggregation=POOLED_LAYERS",
                                                  "model.moe.balance_loss.load=TOKENS_CHOOSING"})),
              AllOf(HasSubstr("0.01 * 8 * sum_i f_i P_i, f and P over the tokens of 4 router(s) "
                              "together"),
                    HasSubstr("2 at perfect balance")));
}

// Two points for the z-loss, and a ramp of the batch.
const std::vector<std::string> kSchedules = {
    "model.moe.z_loss_coefficient=0",          "schedule[0].field=model.moe.z_loss_coefficient",
    "schedule[0].point[0].step=5000",          "schedule[0].point[0].value=0.25",
    "schedule[0].point[1].step=6000",          "schedule[0].point[1].value=0.5",
    "schedule[0].point[1].approach=BY_COSINE", "schedule[1].field=train.global_batch",
    "schedule[1].point[0].tokens=1000000",     "schedule[1].point[0].value=640",
    "schedule[1].point[0].approach=LINEARLY"};

TEST(Losses, StateThoseThatBeginLater) {
  EXPECT_THAT(describe_losses(load("quickstart", kSchedules)),
              HasSubstr("z       = 0.25 * sum over 4 router(s)"));
}

TEST(Inspect, SaysInWordsWhatChangesDuringTraining) {
  const config::RunConfig config = load("quickstart", kSchedules);
  const std::string z = "0, 0.25 from step 5,000 on, by a cosine to 0.5 at step 6,000";
  EXPECT_THAT(inspect_config(config, 1, false),
              HasSubstr("in the course of the run\n  model.moe.z_loss_coefficient = " + z +
                        "\n  train.global_batch = 2, linearly to 640 at 1,000,000 tokens\n"));
  const auto json = nlohmann::json::parse(inspect_config(config, 1, true));
  EXPECT_EQ(json["schedules"]["model.moe.z_loss_coefficient"], z);
  EXPECT_THAT(inspect_config(load("quickstart"), 1, false), Not(HasSubstr("in the course")));
}

TEST(Losses, StateThoseOf2017) {
  const std::string text = describe_losses(
      load("quickstart",
           {"model.moe.router.noise=LEARNED_NOISE", "model.moe.importance_loss_coefficient=0.1",
            "model.moe.load_loss_coefficient=0.2", "model.moe.balance_loss.coefficient=0"}));
  EXPECT_THAT(text, HasSubstr("0.1 * sum over 4 router(s) of var_i(I_i) / mean_i(I_i)^2"));
  EXPECT_THAT(text, HasSubstr("0.2 * sum over 4 router(s) of var_i(L_i) / mean_i(L_i)^2"));
  EXPECT_THAT(text, HasSubstr("when the noise on i is drawn again"));
  EXPECT_THAT(describe_losses(load("quickstart", {"model.moe.router.selection=STRICTLY_BALANCED",
                                                  "model.moe.balance_loss.coefficient=0",
                                                  "model.moe.allow_future=true"})),
              HasSubstr("sum_i (above_i - took_i) (p_i - threshold_i)"));
}

TEST(Losses, StateThoseOfDevices) {
  const std::string text = describe_losses(
      load("quickstart", {"model.moe.router.num_groups=4", "model.moe.router.group_top_k=2",
                          "model.moe.balance_loss.statistics=PER_SEQUENCE",
                          "model.moe.balance_loss.device_coefficient=0.05",
                          "model.moe.balance_loss.communication_coefficient=0.02"}));
  EXPECT_THAT(text, HasSubstr("0.05 * sum over 4 router(s) of sum_g f_g P_g"));
  EXPECT_THAT(text, HasSubstr("f_g = mean of 8 f_i over device group g"));
  EXPECT_THAT(text, HasSubstr("0.02 * sum over 4 router(s) of sum_g f_g P_g"));
  EXPECT_THAT(text, HasSubstr("f_g = 4 / 2 * share of the tokens that are sent to device group g"));
  EXPECT_THAT(text, HasSubstr("f and P over the T tokens of each sequence"));
}

TEST(Losses, StateThoseOfTwoLevels) {
  const std::string text = describe_losses(load(
      "quickstart",
      {"model.moe.router.hierarchy=TWO_LEVEL_BY_IMPORTANCE", "model.moe.router.num_groups=4",
       "model.moe.router.group_top_k=2", "model.moe.balance_loss.statistics=PER_GROUP",
       "model.moe.balance_loss.load=FIRST_CHOICE", "model.moe.capacity.max_group_tokens=512"}));
  EXPECT_THAT(text, HasSubstr("4 * sum_a f_a P_a + sum_a s_a * 2 * sum_i f_ai P_ai"));
  EXPECT_THAT(text, HasSubstr("if that has a row for it and over half of its weight"));
  EXPECT_THAT(text, HasSubstr("each routing group of about 512 token(s)"));
}

TEST(Inspect, GivesTheSameNumbersAsTextAndAsJson) {
  const config::RunConfig config = load("quickstart", {"mesh.expert=2", "train.global_batch=4"});
  const auto json = nlohmann::json::parse(inspect_config(config, 4, true));
  EXPECT_EQ(json["parameters"]["total"], 19'933'440);
  EXPECT_EQ(json["parameters"]["active"], 8'726'784);
  EXPECT_EQ(json["parameters"]["components"]["router"]["total"], 8'192);
  EXPECT_EQ(json["flops_per_token"], flops_per_token(config.model(), {256}));
  EXPECT_EQ(json["mesh"]["expert"], 2);
  EXPECT_EQ(json["mesh"]["expert_data"], 2);
  EXPECT_EQ(json["memory_per_rank"]["parameters"], 19'933'440 - 14'942'208 / 2);
  const auto cut = nlohmann::json::parse(inspect_config(
      load("quickstart", {"mesh.expert=1", "mesh.expert_tensor=2", "train.global_batch=4"}), 4,
      true));
  EXPECT_EQ(cut["memory_per_rank"]["parameters"], json["memory_per_rank"]["parameters"]);
  EXPECT_EQ(json["losses"].size(), 3);
  const std::string text = inspect_config(config, 4, false);
  for (const char* expected :
       {"19,933,440", "8,726,784", "4 rank(s): data 4, expert 2, expert_data 2", "balance = 0.01"})
    EXPECT_THAT(text, HasSubstr(expected));
}

TEST(Inspect, EstimatesMemoryAndTime) {
  const auto memory = [](const std::vector<std::string>& set) {
    return nlohmann::json::parse(
        inspect_config(load("quickstart", set), 1, true))["memory_per_rank"];
  };
  const auto one = memory({}), four = memory({"train.global_batch=8"}),
             parts = memory({"train.global_batch=8", "train.accumulation=4"}),
             again = memory({"train.global_batch=8", "train.recompute=RECOMPUTE_LAYER"});
  EXPECT_GT(four["activation_bytes"], 3.5 * one["activation_bytes"].get<double>());
  EXPECT_EQ(parts["activation_bytes"], one["activation_bytes"]);
  EXPECT_LT(again["activation_bytes"], 0.5 * four["activation_bytes"].get<double>());
  int64_t sum = 0;
  for (const auto& [key, value] : one.items())
    if (key != "parameters" && key != "total_bytes") sum += value.get<int64_t>();
  EXPECT_NEAR(sum, one["total_bytes"].get<double>(), 5);

  // 800 steps of 2 sequences of 256, at half of 1e12 FLOP/s.
  const config::RunConfig config = load("quickstart");
  const double seconds = 800 * 512 * flops_per_token(config.model(), {256}) / 0.5e12;
  EXPECT_DOUBLE_EQ(nlohmann::json::parse(inspect_config(
                       config, 1, true, {.product_rate = 1e12}))["estimated_seconds"],
                   seconds);
  EXPECT_THAT(inspect_config(config, 1, false, {.product_rate = 1e12}),
              AllOf(HasSubstr("time    about 1 minute(s) for 800 steps: an estimate"),
                    HasSubstr("\n  activations ")));
  EXPECT_THAT(inspect_config(config, 1, false), HasSubstr("time    no estimate before"));
}

TEST(Inspect, ChoosesTheExpertDegreeWhenItIsUnset) {
  const config::RunConfig config = load("debug");  // 4 experts
  EXPECT_EQ(nlohmann::json::parse(inspect_config(config, 6, true))["mesh"]["expert"], 2);
  EXPECT_THROW(inspect_config(load("quickstart", {"mesh.expert=2"}), 3, true), ConfigError);
}

}  // namespace
}  // namespace switchyard::models
