#include "models/mtp.h"

#include <gtest/gtest.h>

#include "tests/models/decoder_fixture.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

config::Model without_mtp() {
  return model_of("moe { num_experts: 4 d_ff: 24 } attention { num_heads: 4 }");
}
config::Model with_mtp() {
  config::Model model = without_mtp();
  model.mutable_mtp()->set_weight(0.3);
  return model;
}

at::Tensor row(const std::vector<int64_t>& values) {
  return at::tensor(values, at::kLong).unsqueeze(0);
}

TEST(NextTokens, EndWhereTheDocumentEnds) {
  // 7 8 9 [end] 4 5 6, and 3 comes after the row; the end belongs to what follows it.
  const TokenBatch batch{row({7, 8, 9, 0, 4, 5, 6}), row({8, 9, 0, 4, 5, 6, 3}),
                         row({0, 0, 0, 1, 1, 1, 1}).to(at::kInt)};
  const NextTokens tokens = next_tokens(batch);
  EXPECT_TRUE(at::equal(tokens.next_BS, row({8, 9, 0, 4, 5, 6, 3})));
  EXPECT_TRUE(at::equal(tokens.targets_BS, row({9, 0, -1, 5, 6, 3, -1})));
}

TEST(NextTokens, AskForNothingThatHasNoTarget) {
  const TokenBatch batch{row({7, 8, 9, 2}), row({8, -1, 2, -1}), row({0, 0, 0, 0}).to(at::kInt)};
  const NextTokens tokens = next_tokens(batch);
  EXPECT_TRUE(at::equal(tokens.next_BS, row({8, 9, 2, 0})));
  EXPECT_TRUE(at::equal(tokens.targets_BS, row({-1, 2, -1, -1})));
  const TokenBatch one{row({7}), row({8}), row({0}).to(at::kInt)};
  EXPECT_TRUE(at::equal(next_tokens(one).targets_BS, row({-1})));
}

TEST(MultiTokenPrediction, LeavesTheValueOfTheLossAsItIs) {
  const DecoderInstance plain(without_mtp()), ahead(with_mtp());
  parallel::NamedSums sums;
  const at::Tensor loss = ahead.loss(batch(), true, &sums);
  EXPECT_EQ(loss.item<double>(), plain.loss(batch()).item<double>());
  EXPECT_GT(sums.at("mtp").mean(), 1);
  TextState state, other;
  EXPECT_TRUE(at::equal(ahead.next_logits(batch().tokens_BS, state),
                        plain.next_logits(batch().tokens_BS, other)));
}

TEST(MultiTokenPrediction, IsLeftOutOfEvaluation) {
  const DecoderInstance ahead(with_mtp());
  const at::NoGradGuard no_grad;
  parallel::NamedSums sums;
  ahead.loss(batch(), /*training=*/false, &sums);
  EXPECT_FALSE(sums.contains("mtp"));
}

TEST(MultiTokenPrediction, SharesEmbeddingAndOutputMatrix) {
  const DecoderInstance ahead(with_mtp());
  for (const Parameter& parameter : ahead.table.parameters()) {
    if (parameter.name.starts_with("mtp.")) {
      EXPECT_NE(parameter.shape.front(), kVocab);
    }
  }
}

// A loss on no token at all moves nothing.
TEST(MultiTokenPrediction, HasNoGradientWhereNoTokenIsAskedFor) {
  config::Model model = with_mtp();
  model.mutable_moe()->mutable_balance_loss()->set_coefficient(0);
  model.mutable_moe()->set_z_loss_coefficient(0);
  DecoderInstance ahead(model);
  TokenBatch alone = batch();
  alone.documents_BS.copy_(at::arange(kLength, at::kInt).expand({kRows, kLength}));
  ahead.loss(alone).backward();
  for (const Parameter& parameter : ahead.table.parameters()) {
    const double gradient = parameter.grad.abs().max().item<double>();
    if (parameter.name.starts_with("mtp.")) {
      EXPECT_EQ(gradient, 0) << parameter.name;
    } else if (parameter.name == "embedding") {
      EXPECT_GT(gradient, 0);
    }
  }
}

}  // namespace
}  // namespace switchyard::models
