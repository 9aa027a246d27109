// Dropout outside of attention: its scale, where it is drawn from, and on the hidden layer of dense
// FFNs.

#include "models/layers/dropout.h"

#include <gtest/gtest.h>

#include "models/moe/rules/expert_dropout.h"
#include "parallel/single.h"
#include "tests/models/decoder_fixture.h"
#include "tests/models/dropout_context.h"
#include "tests/testing/near.h"
#include "tests/testing/reference.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

constexpr double kRate = 0.1;
constexpr double kAccuracy = 1e-4;  // of a mean; the factor rounded by itself is off by 1.7e-3

// A million values between 1 and 2, which round up as often as down.
at::Tensor values() {
  at::manual_seed(5);
  return at::rand({4096, 256}).add_(1).to(at::kBFloat16);
}

// The mean over what was kept of result / value; with the factor rounded to bfloat16 it is
// 1.109375 in place of 1.111111.
double mean_factor(const at::Tensor& result, const at::Tensor& value) {
  const at::Tensor ratio = result.to(at::kDouble) / value.to(at::kDouble);
  return ratio.masked_select(ratio.ne(0)).mean().item<double>();
}

TEST(Dropout, KeepsTheMeanInBFloat16) {
  const at::Tensor x = values().requires_grad_();
  const at::Tensor y = dropout(x, kRate, training_from(0), 2);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_NEAR(mean_factor(y.detach(), x.detach()), 1 / (1 - kRate), kAccuracy);
  y.backward(x.detach());
  EXPECT_TRUE(at::equal(x.grad(), y));
}

TEST(Dropout, OfAttentionKeepsTheMeanInBFloat16) {
  const at::Tensor weight = values().view({1, 4, 1024, 256});
  const at::Tensor dropped = inner_dropout(kRate, training_from(0), 2).drop_weights(weight);
  EXPECT_NEAR(mean_factor(dropped, weight), 1 / (1 - kRate), kAccuracy);
}

// Both matrices the identity, so that the output is the masked hidden layer.
struct Identity {
  explicit Identity(int64_t width) {
    for (const char* name : {"in", "out"})
      Scope(table).matrix(name, {1, width, width}, {Init::kConstant, 0});
    table.allocate(at::kBFloat16);
    for (Parameter& parameter : table.parameters()) {
      parameter.value.detach().zero_();
      parameter.value.detach().diagonal(0, 1, 2).fill_(1);
    }
  }
  at::Tensor run(const at::Tensor& rows, const at::Tensor& mask) {
    return ffn_experts(rows, {&table.parameters()[0], &table.parameters()[1]}, Activation::kRelu,
                       {0, rows.size(0)}, mask);
  }
  ParameterTable table;
};

TEST(Dropout, OfHiddenLayersKeepsTheMeanInBFloat16) {
  const at::Tensor x = values().requires_grad_();
  config::Moe moe;
  moe.set_num_experts(1);
  moe.set_d_ff(256);
  moe.set_expert_dropout(kRate);
  const auto world = parallel::make_single();
  const parallel::SlotOrder order{at::arange(x.size(0), at::kLong),
                                  at::full({1}, x.size(0), at::kLong), x.size(0), 1};
  const auto plan = parallel::make_plan(order, *world, 1);
  for (const at::Tensor& mask :
       {inner_dropout(kRate, training_from(0), 2).hidden_factors(x.size(0), x.size(1)),
        expert_dropout_mask(moe, training_from(0), 2, plan, {{0, 1}, {0, 256}})}) {
    x.mutable_grad() = at::Tensor();
    Identity identity(256);
    const at::Tensor y = identity.run(x, mask);
    EXPECT_NEAR(mean_factor(y.detach(), x.detach()), 1 / (1 - kRate), kAccuracy);
    y.backward(x.detach());
    EXPECT_NEAR(mean_factor(x.grad(), x.detach()), 1 / (1 - kRate), kAccuracy);
  }
}

TEST(HiddenDropout, IsDrawnByTokenFeatureLayerAndStep) {
  const at::Tensor all = inner_dropout(0.25, training_from(0), 2).hidden_factors(40, 50);
  EXPECT_NEAR(all.eq(0).to(at::kDouble).mean().item<double>(), 0.25, 0.04);
  EXPECT_EQ(all.max().item<float>(), static_cast<float>(1 / 0.75));
  const at::Tensor rest = inner_dropout(0.25, training_from(30), 2).hidden_factors(10, 50);
  EXPECT_TRUE(at::equal(all.narrow(0, 30, 10), rest));
  EXPECT_FALSE(at::equal(all.narrow(0, 0, 10), rest));
  EXPECT_FALSE(at::equal(inner_dropout(0.25, training_from(0), 3).hidden_factors(40, 50), all));
  StepContext later = training_from(0);
  ++later.key.step;
  EXPECT_FALSE(at::equal(inner_dropout(0.25, later, 2).hidden_factors(40, 50), all));
  // Another stream than that of dropout on a layer's output.
  EXPECT_FALSE(at::equal(dropout(at::ones({40, 50}), 0.25, training_from(0), 2), all));
  StepContext evaluation = training_from(0);
  evaluation.training = false;
  EXPECT_FALSE(inner_dropout(0.25, evaluation, 2).hidden_factors(40, 50).defined());
}

TEST(HiddenDropout, MultipliesTheHiddenLayerOfADenseFfn) {
  const config::Model model = model_of("d_ff: 20 attention { num_heads: 4 }");
  at::manual_seed(6);
  const at::Tensor x = at::randn({24, 16}, at::kDouble);
  for (const config::Ffn kind : {config::SWIGLU, config::RELU}) {
    ParameterTable table;
    const DenseFfn ffn(Scope(table) / "ffn", model, kind, 20);
    table.allocate(at::kDouble);
    table.initialize(7);
    const reference::FfnTensors weights{table.parameters()[0].master.unsqueeze(0),
                                        table.parameters()[1].master.unsqueeze(0),
                                        {},
                                        {}};
    const InnerDropout dropout = inner_dropout(0.25, training_from(5), 1);
    const Activation activation = kind == config::RELU ? Activation::kRelu : Activation::kSwiglu;
    EXPECT_TRUE(is_near(ffn.forward(x, dropout),
                        reference::ffn_experts(x, weights, activation, {0, 24},
                                               dropout.hidden_factors(24, 20).to(at::kDouble))));
    EXPECT_TRUE(
        is_near(ffn.forward(x), reference::ffn_experts(x, weights, activation, {0, 24}, {})));
  }
}

// In dense layers and in dense sub-layers beside experts; not in shared experts.
TEST(FfnDropout, ActsInTrainingWhereAFfnIsDense) {
  const std::string heads = "attention { num_heads: 4 } d_ff: 24 ";
  const auto losses = [&](const std::string& text, bool training) {
    return DecoderInstance(model_of(heads + text)).losses(batch(), training);
  };
  for (const std::string text :
       {"", "moe { num_experts: 4 d_ff: 8 stacking: DENSE_BEFORE }",
        "moe { num_experts: 4 d_ff: 8 stacking: DENSE_AFTER }",
        "moe { num_experts: 4 d_ff: 8 first_layer: 1 shared_expert { count: 1 } }"}) {
    const at::Tensor plain = losses(text, true);
    EXPECT_FALSE(is_near(losses(text + " ffn_dropout: 0.3", true), plain, 1e-6)) << text;
    EXPECT_TRUE(at::equal(losses(text + " ffn_dropout: 0.3", false), losses(text, false))) << text;
    EXPECT_TRUE(at::equal(losses(text + " ffn_dropout: 0", true), plain)) << text;
  }
}

}  // namespace
}  // namespace switchyard::models
