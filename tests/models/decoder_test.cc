#include "models/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "models/pass/stats.h"
#include "tests/models/decoder_fixture.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;
using switchyard::testing::tiny_config;

config::Model moe_model() { return tiny_config().model(); }

config::Model dense_model() {
  config::Model model = moe_model();
  model.clear_moe();
  model.set_d_ff(24);
  return model;
}

// Encloses each MoE sub-layer: a multiplied hidden layer, another dense FFN, two-matrix experts.
config::Model stacked_model() {
  config::Model model = dense_model();
  *model.mutable_moe() = moe_model().moe();
  model.set_ffn_bias(config::MULTIPLICATIVE);
  model.mutable_moe()->set_ffn(config::RELU);
  model.mutable_moe()->set_stacking(config::DENSE_AFTER);
  return model;
}

// As many as the batch's rows are long.
config::Model with_learned_positions(const std::string& text) {
  config::Model model =
      model_of("d_ff: 24 attention { num_heads: 4 position: LEARNED_POSITIONS } " + text);
  model.mutable_attention()->set_max_positions(kLength);
  return model;
}

struct NamedModel {
  const char* name;
  config::Model model;
};
void PrintTo(const NamedModel& model, std::ostream* out) { *out << model.name; }

// What sets the published families apart, at a tiny size. ffn: the text of their FFN.
std::vector<NamedModel> families(const std::string& ffn) {
  const auto with = [&](const char* name, const std::string& text) {
    return NamedModel{name, model_of(text + " " + ffn)};
  };
  return {
      with("qwen", "attention { num_heads: 4 num_kv_heads: 2 qkv_bias: true }"),
      with("qwen3", "attention { num_heads: 4 num_kv_heads: 2 head_dim: 6 qk_norm: PER_HEAD }"),
      with("olmoe", "attention { num_heads: 4 qk_norm: FULL_WIDTH } tie_embeddings: false"),
      with("dbrx",
           "norm: LAYER_NORM_NO_BIAS attention { num_heads: 4 num_kv_heads: 2 qkv_clip: 0.5 }"),
      with("grok",
           "sandwich_norm: true embedding_scale: 4 output_scale: 0.6 ffn: GEGLU_TANH "
           "attention { num_heads: 4 num_kv_heads: 2 logit_cap: 2 }"),
      with("glam",
           "ffn: GEGLU attention { num_heads: 4 position: RELATIVE_BIAS "
           "relative_bias { num_buckets: 8 max_distance: 10 shared: false } }"),
      with("t5", "norm: LAYER_NORM ffn: RELU attention { num_heads: 4 position: RELATIVE_BIAS }"),
      with("gpt2",
           "norm: LAYER_NORM ffn: GELU attention { num_heads: 4 position: LEARNED_POSITIONS }"),
      with("mistral", "attention { num_heads: 4 sliding_window: 4 }"),
      with("deepseek_v2",
           "norm_cast: CAST_THEN_SCALE attention { num_heads: 4 latent { kv_rank: 6 "
           "rope_dim: 4 nope_dim: 3 value_dim: 5 } yarn { original_length: 8 } }"),
      with("deepseek_v3",
           "attention { num_heads: 4 latent { kv_rank: 6 q_rank: 7 rope_dim: 4 "
           "nope_dim: 3 value_dim: 5 } }"),
  };
}

using Instance = DecoderInstance;

struct EveryDecoder : ::testing::TestWithParam<NamedModel> {};

TEST_P(EveryDecoder, GeneratesFromItsCacheAsFromTheWholeText) {
  const Instance instance(GetParam().model);
  const at::Tensor tokens = batch().tokens_BS;
  TextState state;
  int64_t seen = 0;
  for (const int64_t piece : {3, 1, 1, 4, 1, 2}) {  // a prompt, tokens, and longer pieces
    const at::Tensor logits = instance.next_logits(tokens.slice(1, seen, seen + piece), state);
    seen += piece;
    TextState fresh;
    const at::Tensor whole = instance.next_logits(tokens.slice(1, 0, seen), fresh);
    EXPECT_TRUE(is_near(logits, whole)) << "after " << seen << " tokens";
    EXPECT_EQ(state.layers[0].self.length(), seen);
  }
}

TEST_P(EveryDecoder, GeneratesWhatItsLossWasTrainedOn) {
  const Instance instance(GetParam().model);
  const TokenBatch tokens = batch();
  const at::Tensor losses = instance.losses(tokens);
  TextState state;
  for (int64_t i = 0; i < kLength; ++i) {
    const at::Tensor logits = instance.next_logits(tokens.tokens_BS.slice(1, i, i + 1), state);
    const at::Tensor target = tokens.targets_BS.select(1, i);
    if (target[0].item<int64_t>() < 0) continue;
    const at::Tensor expected = -logits.log_softmax(1).gather(1, target.unsqueeze(1)).squeeze(1);
    EXPECT_TRUE(is_near(losses.select(1, i), expected, 1e-5)) << "position " << i;
  }
}

TEST_P(EveryDecoder, DoesNotSeeLaterTokens) {
  const Instance instance(GetParam().model);
  const at::Tensor before = instance.losses(batch());
  for (const int64_t changed : {int64_t{1}, kLength / 2, kLength - 1}) {
    TokenBatch other = batch();
    other.tokens_BS.select(1, changed).add_(5).remainder_(kVocab);
    const at::Tensor after = instance.losses(other);
    EXPECT_TRUE(is_near(after.slice(1, 0, changed), before.slice(1, 0, changed))) << changed;
    EXPECT_FALSE(is_near(after.slice(1, changed), before.slice(1, changed))) << changed;
  }
}

TEST_P(EveryDecoder, DoesNotSeeOtherDocuments) {
  const Instance instance(GetParam().model);
  TokenBatch first = batch();
  first.documents_BS.slice(1, 5, 9).fill_(1);
  first.documents_BS.slice(1, 9).fill_(2);
  TokenBatch second = first;
  second.tokens_BS = first.tokens_BS.clone();
  second.tokens_BS.slice(1, 0, 5).add_(3).remainder_(kVocab);
  second.tokens_BS.slice(1, 9).add_(9).remainder_(kVocab);
  const at::Tensor a = instance.losses(first), b = instance.losses(second);
  EXPECT_TRUE(is_near(a.slice(1, 5, 9), b.slice(1, 5, 9)));
  EXPECT_FALSE(is_near(a.slice(1, 0, 5), b.slice(1, 0, 5)));
}

TEST_P(EveryDecoder, GivesZeroLossWhereThereIsNoTarget) {
  const Instance instance(GetParam().model);
  const at::Tensor losses = instance.losses(batch());
  EXPECT_EQ(losses.select(1, 4).abs().sum().item<double>(), 0);
  EXPECT_GT(losses.select(1, 3).min().item<double>(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Models, EveryDecoder,
    ::testing::Values(NamedModel{"moe", moe_model()}, NamedModel{"dense", dense_model()},
                      NamedModel{"stacked", stacked_model()},
                      NamedModel{"switch_attention",
                                 model_of("attention { num_heads: 4 switch_projections: true } "
                                          "moe { num_experts: 4 top_k: 1 d_ff: 24 }")}),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(Families, EveryDecoder,
                         ::testing::ValuesIn(families("moe { num_experts: 4 d_ff: 24 }")),
                         [](const auto& test) { return test.param.name; });

// With the auxiliary losses, which are in the gradient alone.
double whole_loss(const Instance& instance, const config::Model& model, const TokenBatch& tokens) {
  const at::NoGradGuard no_grad;
  const config::Moe& moe = model.moe();
  parallel::NamedSums sums;
  std::vector<RoutingSums> routers(config::num_routers(model));
  double loss = instance.loss(tokens, true, &sums, &routers).item<double>();
  loss += model.mtp().weight() * sums["mtp"].total;
  loss += model.output_z_loss_coefficient() * sums["output_z"].total;
  const bool sum = moe.layer_aggregation() <= config::SUM_OVER_LAYERS;
  const double share = sum ? 1.0 : 1.0 / static_cast<double>(routers.size());
  for (const RoutingStats& router : numbers_of(routers)) {
    loss += share * moe.balance_loss().coefficient() * router.losses[RouterLoss::kBalance];
    loss += share * moe.z_loss_coefficient() * router.losses[RouterLoss::kZ];
  }
  return loss;
}

void expect_gradients(const config::Model& model) {
  Instance instance(model);
  TokenBatch tokens = batch();
  tokens.documents_BS.slice(1, 7).fill_(1);
  instance.loss(tokens).backward();
  const auto value = [&] { return whole_loss(instance, model, tokens); };
  for (const Parameter& parameter : instance.table.parameters()) {
    SCOPED_TRACE(parameter.name);
    EXPECT_GT(parameter.grad.abs().max().item<double>(), 1e-6);
    expect_gradient(parameter.master, parameter.grad, value,
                    {.step = 1e-5, .tolerance = 1e-8, .most_elements = 11});
  }
}

struct DenseDecoder : ::testing::TestWithParam<NamedModel> {};

TEST_P(DenseDecoder, HasTheGradientsOfFiniteDifferences) {
  config::Model model = GetParam().model;
  model.set_num_layers(1);
  expect_gradients(model);
}

INSTANTIATE_TEST_SUITE_P(
    Models, DenseDecoder,
    ::testing::Values(
        NamedModel{"tied", dense_model()},
        NamedModel{"output_z_loss",
                   model_of("d_ff: 24 output_z_loss_coefficient: 0.1 attention { num_heads: 4 }")},
        NamedModel{"mtp", model_of("d_ff: 24 mtp { weight: 0.3 } attention { num_heads: 4 }")},
        NamedModel{"mtp_of_learned_positions", with_learned_positions("mtp { weight: 0.3 }")},
        NamedModel{"unit_embeddings",
                   model_of("d_ff: 24 initializer: TRUNCATED_NORMAL init_scale: 1 output_scale: "
                            "0.7 mtp { weight: 0.3 } attention { num_heads: 4 }")},
        NamedModel{"ffn_dropout", model_of("d_ff: 24 ffn_dropout: 0.2 attention { num_heads: 4 }")},
        NamedModel{"attention_dropout",
                   model_of("d_ff: 24 attention { num_heads: 4 num_kv_heads: 2 dropout: 0.2 }")}),
    [](const auto& test) { return test.param.name; });
INSTANTIATE_TEST_SUITE_P(Families, DenseDecoder, ::testing::ValuesIn(families("d_ff: 24")),
                         [](const auto& test) { return test.param.name; });

// Two layers with experts; `text` is the rest of the MoE layers' settings.
NamedModel experts_with(const char* name, const std::string& text, const std::string& rest = "") {
  return {name, model_of("moe { num_experts: 4 top_k: 2 d_ff: 8 balance_loss { coefficient: 0.5 } "
                         "z_loss_coefficient: 0.1 " +
                         text + " } attention { num_heads: 4 } " + rest)};
}

struct SparseDecoder : ::testing::TestWithParam<NamedModel> {};

TEST_P(SparseDecoder, HasTheGradientsOfFiniteDifferences) { expect_gradients(GetParam().model); }

INSTANTIATE_TEST_SUITE_P(
    Models, SparseDecoder,
    ::testing::Values(experts_with("gated_shared_expert",
                                   "shared_expert { count: 1 d_ff: 8 sigmoid_gate: true }"),
                      experts_with("dense_before", "stacking: DENSE_BEFORE", "d_ff: 8"),
                      experts_with("dense_after", "stacking: DENSE_AFTER", "d_ff: 8"),
                      experts_with("ffn_dropout", "stacking: DENSE_AFTER",
                                   "d_ff: 8 ffn_dropout: 0.1"),
                      experts_with("mtp", "", "mtp { weight: 0.3 }"),
                      experts_with("mean_over_layers", "layer_aggregation: MEAN_OVER_LAYERS"),
                      experts_with("pooled_layers", "layer_aggregation: POOLED_LAYERS")),
    [](const auto& test) { return test.param.name; });

TEST(Decoder, HasAnOutputMatrixOfItsOwnOnlyIfUntied) {
  for (const bool tied : {true, false}) {
    config::Model model = moe_model();
    model.set_tie_embeddings(tied);
    const Instance instance(model);
    const auto& parameters = instance.table.parameters();
    EXPECT_EQ(std::ranges::count(parameters, "output", &Parameter::name), tied ? 0 : 1);
    EXPECT_EQ(std::ranges::count(parameters, "embedding", &Parameter::name), 1);
  }
}

TEST(LearnedPositions, ReachAsFarAsTheirTable) {
  const Instance instance(with_learned_positions(""));
  const at::Tensor tokens = batch().tokens_BS;
  TextState state;
  instance.next_logits(tokens, state);
  const auto message = [&](const at::Tensor& more) -> std::string {
    try {
      instance.next_logits(more, state);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message(tokens.slice(1, 0, 1)),
              ::testing::HasSubstr("13 positions and model.attention.max_positions is 12"));
  EXPECT_EQ(state.layers[0].self.length(), 12);
  EXPECT_EQ(instance.model.text().longest_text(), 12);
}

}  // namespace
}  // namespace switchyard::models
