// Every hot operation, as the CPU computes it and the plain way, against its reference.

#include "core/tensor/ops.h"
#include "core/tensor/aten.h"

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/tensor/vocabulary_loss.h"
#include "tests/core/tensor/op_case.h"
#include "tests/testing/near.h"
#include "tests/testing/reference.h"

namespace switchyard {
namespace {

using testing::draw;
using testing::expect_agrees;
using testing::expect_matches_finite_differences;
using testing::fill_table;
using testing::is_near;
using testing::OpCase;
using Weights = std::deque<Parameter>;
using Tensors = std::vector<at::Tensor>;

OpCase linear_case(std::vector<int64_t> input, int64_t out) {
  const int64_t in = input.back();
  return {std::move(input),
          {{out, in}},
          [](const at::Tensor& x, Weights& w) { return linear(x, w[0]); },
          [](const at::Tensor& x, const Tensors& w) { return reference::linear(x, w[0]); }};
}

OpCase linear_experts_case(const std::vector<int64_t>& offsets, int64_t in, int64_t out) {
  const int64_t experts = static_cast<int64_t>(offsets.size()) - 1;
  return {{offsets.back(), in},
          {{experts, out, in}},
          [=](const at::Tensor& x, Weights& w) { return linear_experts(x, w[0], offsets); },
          [=](const at::Tensor& x, const Tensors& w) {
            Tensors parts;
            for (int64_t e = 0; e < experts; ++e) {
              parts.push_back(reference::linear(x.slice(0, offsets[e], offsets[e + 1]), w[0][e]));
            }
            return at::concat(parts);
          }};
}

OpCase norm_case(std::vector<int64_t> input) {
  const int64_t width = input.back();
  return {std::move(input),
          {{width}},
          [](const at::Tensor& x, Weights& w) { return rms_norm(x, w[0], 1e-5); },
          [](const at::Tensor& x, const Tensors& w) { return reference::rms_norm(x, w[0], 1e-5); }};
}

OpCase rope_case(std::vector<int64_t> input) {
  const at::Tensor angle = draw({input[1], input[3] / 2}, at::kFloat, 3);
  const at::Tensor cos = angle.cos(), sin = angle.sin();
  return {std::move(input),
          {},
          [=](const at::Tensor& x, Weights&) { return rope(x, cos, sin); },
          [=](const at::Tensor& x, const Tensors&) { return reference::rope(x, cos, sin); }};
}

reference::FfnTensors ffn_tensors(const Tensors& w) {
  const auto at_or_none = [&](size_t i) { return i < w.size() ? w[i] : at::Tensor(); };
  return {w[0], w[1], at_or_none(2), at_or_none(3)};
}

FfnWeights ffn_weights(Weights& w) {
  const auto at_or_none = [&](size_t i) { return i < w.size() ? &w[i] : nullptr; };
  return {&w[0], &w[1], at_or_none(2), at_or_none(3)};
}

OpCase experts_case(const std::vector<int64_t>& offsets, int64_t features, int64_t hidden,
                    Activation kind = Activation::kSwiglu) {
  const int64_t experts = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t width = is_gated(kind) ? 2 * hidden : hidden;
  return {{offsets.back(), features},
          {{experts, width, features}, {experts, features, hidden}},
          [=](const at::Tensor& x, Weights& w) {
            return ffn_experts(x, ffn_weights(w), kind, offsets);
          },
          [=](const at::Tensor& x, const Tensors& w) {
            return reference::ffn_experts(x, ffn_tensors(w), kind, offsets);
          }};
}

// With a scale and a shift of the hidden layer, and a mask that drops some of it.
OpCase modulated_case(const std::vector<int64_t>& offsets, int64_t features, int64_t hidden) {
  OpCase c = experts_case(offsets, features, hidden);
  const int64_t experts = static_cast<int64_t>(offsets.size()) - 1;
  c.weights.insert(c.weights.end(), 2, {experts, hidden});
  const at::Tensor mask = draw({offsets.back(), hidden}, at::kDouble, 9).gt(0.2) * 2;
  c.op = [=](const at::Tensor& x, Weights& w) {
    return ffn_experts(x, ffn_weights(w), Activation::kSwiglu, offsets, mask.to(x.scalar_type()));
  };
  c.reference = [=](const at::Tensor& x, const Tensors& w) {
    return reference::ffn_experts(x, ffn_tensors(w), Activation::kSwiglu, offsets,
                                  mask.to(x.scalar_type()));
  };
  return c;
}

// A dense layer's parameters have no dimension of experts.
OpCase dense_ffn_case(int64_t rows, int64_t features, int64_t hidden) {
  return {{rows, features},
          {{2 * hidden, features}, {features, hidden}, {hidden}},
          [=](const at::Tensor& x, Weights& w) {
            return ffn_experts(x, ffn_weights(w), Activation::kGeglu, {0, rows});
          },
          [=](const at::Tensor& x, const Tensors& w) {
            return reference::ffn_experts(
                x, {w[0].unsqueeze(0), w[1].unsqueeze(0), w[2].unsqueeze(0), {}},
                Activation::kGeglu, {0, rows});
          }};
}

constexpr Activation kActivations[] = {
    Activation::kSwiglu, Activation::kGeglu, Activation::kGegluTanh,  Activation::kReglu,
    Activation::kRelu,   Activation::kGelu,  Activation::kSquaredRelu};

OpCase embedding_case(const at::Tensor& ids) {
  return {{},
          {{11, 70}},
          [=](const at::Tensor&, Weights& w) { return embedding(ids, w[0]); },
          [=](const at::Tensor&, const Tensors& w) { return reference::embedding(ids, w[0]); }};
}

// Targets walk through the vocabulary; every fourth token has none.
at::Tensor some_targets(int64_t tokens, int64_t vocabulary) {
  const at::Tensor targets = at::arange(tokens, at::kLong).mul_(7).remainder_(vocabulary);
  for (int64_t i = 3; i < tokens; i += 4) targets[i] = -1;
  return targets;
}

at::Tensor cross_entropy_of(const at::Tensor& hidden, Parameter& weight, const at::Tensor& targets,
                            double scale) {
  CrossEntropyLoss loss(targets, scale);
  return vocabulary_loss(hidden, weight, loss);
}

OpCase loss_case(int64_t tokens, int64_t features, int64_t vocabulary) {
  const at::Tensor targets = some_targets(tokens, vocabulary);
  return {{tokens, features},
          {{vocabulary, features}},
          [=](const at::Tensor& x, Weights& w) { return cross_entropy_of(x, w[0], targets, 0.25); },
          [=](const at::Tensor& x, const Tensors& w) {
            return reference::token_losses(x, w[0], targets).sum() * 0.25;
          }};
}

// The loss and the output z-loss together, since the operation's result leaves the latter out.
OpCase z_loss_case(int64_t tokens, int64_t features, int64_t vocabulary) {
  const at::Tensor targets = some_targets(tokens, vocabulary);
  constexpr double kScale = 0.25, kCoefficient = 0.3;
  return {{tokens, features},
          {{vocabulary, features}},
          [=](const at::Tensor& x, Weights& w) {
            CrossEntropyLoss loss(targets, kScale, kCoefficient);
            const at::Tensor value = vocabulary_loss(x, w[0], loss);
            return value + kCoefficient * loss.z();
          },
          [=](const at::Tensor& x, const Tensors& w) {
            return (reference::token_losses(x, w[0], targets).sum() +
                    kCoefficient * reference::token_z(x, w[0], targets).sum()) *
                   kScale;
          }};
}

class Op : public ::testing::TestWithParam<at::ScalarType> {};
INSTANTIATE_TEST_SUITE_P(Types, Op, ::testing::Values(at::kDouble, at::kFloat, at::kBFloat16),
                         [](const auto& type) { return at::toString(type.param); });

TEST_P(Op, LinearAgreesWithItsReference) {
  expect_agrees(linear_case({3, 5, 24}, 40), GetParam());
  expect_agrees(linear_case({130, 96}, 72), GetParam());  // above the small-product threshold
  expect_agrees(linear_case({0, 24}, 40), GetParam());
  expect_agrees(linear_experts_case({0, 3, 3, 130}, 96, 72), GetParam());
}

TEST_P(Op, LinearReadsStridedInput) {
  OpCase c = linear_case({3, 5, 24}, 8);
  c.strided_input = true;
  expect_agrees(c, GetParam());
}

TEST_P(Op, EmbeddingAgreesWithItsReference) {
  expect_agrees(embedding_case(at::arange(24, at::kLong).remainder_(5).view({4, 6})), GetParam());
  expect_agrees(embedding_case(at::empty({0, 3}, at::kLong)), GetParam());
}

TEST_P(Op, RmsNormAgreesWithItsReference) {
  expect_agrees(norm_case({2, 75, 37}), GetParam());  // more rows than one part
  expect_agrees(norm_case({3, 64}), GetParam());
  expect_agrees(norm_case({0, 64}), GetParam());
}

TEST_P(Op, RmsNormReadsStridedInput) {
  OpCase c = norm_case({4, 33});
  c.strided_input = true;
  expect_agrees(c, GetParam());
}

TEST_P(Op, RopeAgreesWithItsReference) {
  expect_agrees(rope_case({2, 5, 3, 16}), GetParam());
  expect_agrees(rope_case({0, 5, 3, 16}), GetParam());
  OpCase c = rope_case({2, 5, 3, 6});
  c.strided_input = true;
  expect_agrees(c, GetParam());
}

TEST_P(Op, ExpertsOfEveryActivationAgreeWithTheirReference) {
  for (const Activation kind : kActivations) {
    SCOPED_TRACE(static_cast<int>(kind));
    expect_agrees(experts_case({0, 7, 7, 26}, 24, 40, kind), GetParam());
  }
}

TEST_P(Op, ExpertsWithBiasesAndDropoutAgreeWithTheirReference) {
  expect_agrees(modulated_case({0, 7, 7, 26}, 24, 40), GetParam());
}

TEST_P(Op, ExpertsAgreeWithTheirReferenceForAnyLoad) {
  expect_agrees(experts_case({0, 7, 20, 26}, 24, 40), GetParam());
  expect_agrees(experts_case({0, 0, 9, 9, 10, 10}, 12, 20), GetParam());  // some empty
  expect_agrees(experts_case({0, 0, 0, 30, 30}, 12, 20), GetParam());     // one gets all
  expect_agrees(experts_case({0, 0, 0}, 12, 20), GetParam());             // none at all
  expect_agrees(experts_case({0, 33}, 48, 64), GetParam());
  expect_agrees(dense_ffn_case(33, 48, 64), GetParam());
}

TEST_P(Op, ManySmallExpertsAgreeWithTheirReference) {
  std::vector<int64_t> offsets = {0};
  for (int64_t i = 0; i < 37; ++i) offsets.push_back(offsets.back() + i % 5);
  expect_agrees(experts_case(offsets, 16, 8), GetParam());
}

TEST_P(Op, ExpertsReadStridedInput) {
  OpCase c = experts_case({0, 7, 20}, 24, 40);
  c.strided_input = true;
  expect_agrees(c, GetParam());
}

TEST_P(Op, VocabularyLossAgreesWithItsReference) {
  expect_agrees(loss_case(12, 20, 67), GetParam());
  expect_agrees(loss_case(300, 16, 50), GetParam());  // two blocks of rows
  expect_agrees(loss_case(0, 16, 50), GetParam());
  expect_agrees(z_loss_case(300, 16, 50), GetParam());
  expect_agrees(z_loss_case(0, 16, 50), GetParam());
}

TEST(OpGradients, MatchFiniteDifferences) {
  expect_matches_finite_differences(linear_case({2, 3, 5}, 4));
  expect_matches_finite_differences(linear_experts_case({0, 2, 2, 6}, 5, 4));
  expect_matches_finite_differences(norm_case({3, 6}));
  expect_matches_finite_differences(rope_case({1, 3, 2, 4}));
  for (const Activation kind : kActivations)
    expect_matches_finite_differences(experts_case({0, 2, 2, 5}, 4, 3, kind));
  expect_matches_finite_differences(modulated_case({0, 2, 2, 5}, 4, 3));
  expect_matches_finite_differences(loss_case(5, 4, 7));
  expect_matches_finite_differences(z_loss_case(5, 4, 7));
  expect_matches_finite_differences({{},
                                     {{3, 2}},
                                     [](const at::Tensor&, Weights& w) {
                                       return embedding(at::arange(3).mul_(2).remainder_(3), w[0]);
                                     },
                                     {}});
}

TEST(OpGradients, OfWeightsAccumulateOverBackwardCalls) {
  ParameterTable once, twice;
  fill_table(once, {{8, 6}}, at::kFloat);
  fill_table(twice, {{8, 6}}, at::kFloat);
  const at::Tensor x = draw({5, 6}, at::kFloat);
  linear(x, once.parameters()[0]).sum().backward();
  for (int i = 0; i < 2; ++i) linear(x, twice.parameters()[0]).sum().backward();
  EXPECT_TRUE(at::equal(twice.parameters()[0].grad, once.parameters()[0].grad * 2));
}

TEST(OpGradients, PassThroughWeightsThatDoNotTrain) {
  const auto gradient = [](bool trains) {
    ParameterTable table;
    fill_table(table, {{2, 12, 4}, {2, 4, 6}, {4}, {9, 4}, {4, 4}, {2, 4, 4}}, at::kFloat, trains);
    Weights& w = table.parameters();
    const at::Tensor x = draw({5, 4}, at::kFloat).set_requires_grad(true);
    at::Tensor y = linear_experts(linear(rms_norm(x, w[2], 1e-5), w[4]), w[5], {0, 2, 5});
    y = ffn_experts(y, {&w[0], &w[1]}, Activation::kSwiglu, {0, 2, 5});
    cross_entropy_of(y + use(w[2], at::kFloat), w[3], at::arange(5), 1).backward();
    for (const Parameter& parameter : w) EXPECT_EQ(parameter.grad.defined(), trains);
    return x.grad();
  };
  EXPECT_TRUE(at::equal(gradient(false), gradient(true)));
}

TEST(OpGradients, RepeatBitwise) {
  std::vector<at::Tensor> grads;
  for (int run = 0; run < 2; ++run) {
    ParameterTable table;
    fill_table(table, {{4, 96, 64}, {4, 64, 48}, {64}, {200, 64}}, at::kFloat);
    Weights& w = table.parameters();
    const at::Tensor x = embedding(at::arange(140, at::kLong).remainder_(33), w[3]);
    const at::Tensor y = ffn_experts(rms_norm(x, w[2], 1e-5), {&w[0], &w[1]}, Activation::kSwiglu,
                                     {0, 9, 60, 60, 140});
    cross_entropy_of(y, w[3], some_targets(140, 200), 0.1).backward();
    grads.push_back(table.groups()[0].grad.clone());
  }
  EXPECT_TRUE(at::equal(grads[0], grads[1]));
}

TEST(VocabularyLoss, GivesEachTokensLossAndNoGradientWhenGradientsAreOff) {
  ParameterTable table;
  fill_table(table, {{50, 8}}, at::kFloat);
  Parameter& weight = table.parameters()[0];
  const at::Tensor hidden = draw({9, 8}, at::kFloat), targets = some_targets(9, 50);
  at::NoGradGuard no_grad;
  CrossEntropyLoss loss(targets, 0.5);
  const at::Tensor value = vocabulary_loss(hidden, weight, loss);
  EXPECT_TRUE(is_near(loss.losses(), reference::token_losses(hidden, weight.value, targets)));
  EXPECT_TRUE(is_near(value, loss.losses().sum() * 0.5));
  EXPECT_EQ(weight.grad.abs().sum().item<float>(), 0);
}

// Of bfloat16 operands, whose products are exact in float32: logits rounded to bfloat16 would miss
// by a hundredth.
TEST(VocabularyLoss, OfBFloat16IsThatOfLogitsInFloat32) {
  ParameterTable table;
  fill_table(table, {{500, 256}}, at::kBFloat16);
  const Parameter& weight = table.parameters()[0];
  const at::Tensor hidden = draw({300, 256}, at::kBFloat16), targets = some_targets(300, 500);
  CrossEntropyLoss loss(targets, 1);
  vocabulary_loss(hidden, table.parameters()[0], loss).backward();
  const at::Tensor hidden64 = hidden.to(at::kDouble), weight64 = weight.value.to(at::kDouble);
  EXPECT_TRUE(is_near(loss.losses(), reference::token_losses(hidden64, weight64, targets), 1e-5));
  const at::Tensor logits = vocabulary_logits(hidden, weight);
  EXPECT_EQ(logits.scalar_type(), at::kFloat);
  EXPECT_TRUE(is_near(logits, at::mm(hidden64, weight64.t()), 1e-5));
}

TEST(VocabularyLoss, LeavesTheZLossOutOfItsValue) {
  ParameterTable table;
  fill_table(table, {{50, 8}}, at::kDouble);
  const at::Tensor hidden = draw({9, 8}, at::kDouble), targets = some_targets(9, 50);
  Parameter& weight = table.parameters()[0];
  CrossEntropyLoss plain(targets, 0.25), with_z(targets, 0.25, 0.3);
  EXPECT_TRUE(
      at::equal(vocabulary_loss(hidden, weight, with_z), vocabulary_loss(hidden, weight, plain)));
  EXPECT_TRUE(at::equal(with_z.losses(), plain.losses()));
  EXPECT_TRUE(
      is_near(with_z.z(), 0.25 * reference::token_z(hidden, weight.value, targets).sum(), 1e-10));
  EXPECT_FALSE(plain.z().defined());
}

TEST(VocabularyLoss, StaysFiniteForExtremeLogits) {
  ParameterTable table;
  fill_table(table, {{40, 4}}, at::kFloat);
  table.parameters()[0].master.mul_(1e4);
  const at::Tensor hidden = draw({3, 4}, at::kFloat).set_requires_grad(true);
  const at::Tensor loss = cross_entropy_of(hidden, table.parameters()[0], at::arange(3), 1);
  loss.backward();
  EXPECT_TRUE(at::isfinite(loss).item<bool>());
  EXPECT_TRUE(at::isfinite(hidden.grad()).all().item<bool>());
}

TEST(VocabularyLoss, RefusesAnotherCoefficientThanOne) {
  ParameterTable table;
  fill_table(table, {{5, 4}}, at::kFloat);
  const at::Tensor loss =
      cross_entropy_of(draw({2, 4}, at::kFloat), table.parameters()[0], at::arange(2), 1);
  EXPECT_THROW((loss * 2).backward(), c10::Error);
}

TEST(VocabularyLoss, RefusesATargetOutsideTheVocabulary) {
  ParameterTable table;
  fill_table(table, {{5, 4}}, at::kFloat);
  EXPECT_THROW(cross_entropy_of(draw({2, 4}, at::kFloat), table.parameters()[0],
                                at::full({2}, 5, at::kLong), 1),
               CheckError);
}

// What distillation needs: each row against a distribution of its own. The rows fill several
// blocks.
class SoftTargets : public LogitsLoss {
 public:
  explicit SoftTargets(const at::Tensor& probability_TV) : probability_TV_(probability_TV) {}
  void begin(int64_t rows, const at::TensorOptions& options) override {
    loss_T_ = at::empty({rows}, options);
  }
  void add(const at::Tensor& logits_RV, int64_t first, bool with_gradient) override {
    const int64_t rows = logits_RV.size(0);
    const at::Tensor target = probability_TV_.narrow(0, first, rows);
    const at::Tensor log_softmax = logits_RV.log_softmax(-1);
    loss_T_.narrow(0, first, rows).copy_(-(target * log_softmax).sum(-1));
    if (with_gradient) logits_RV.copy_(log_softmax.exp() - target);
  }
  at::Tensor value() const override { return loss_T_.sum(); }

 private:
  at::Tensor probability_TV_, loss_T_;
};

TEST(VocabularyLoss, TakesAnyLossOnRowsOfLogits) {
  ParameterTable table;
  fill_table(table, {{50, 8}}, at::kDouble);
  Parameter& weight = table.parameters()[0];
  const at::Tensor hidden = draw({600, 8}, at::kDouble).set_requires_grad(true);
  const at::Tensor target = draw({600, 50}, at::kDouble).softmax(-1);
  SoftTargets soft(target);
  const at::Tensor value = vocabulary_loss(hidden, weight, soft);
  value.backward();
  const at::Tensor x = hidden.detach().clone().set_requires_grad(true),
                   w = weight.value.detach().clone().set_requires_grad(true);
  const at::Tensor expected = -(target * at::mm(x, w.t()).log_softmax(-1)).sum();
  expected.backward();
  EXPECT_TRUE(is_near(value, expected));
  EXPECT_TRUE(is_near(hidden.grad(), x.grad()));
  EXPECT_TRUE(is_near(weight.grad, w.grad()));
}

TEST(FfnExperts, RefuseOffsetsThatDoNotCoverTheRowsAndShapesThatDoNotFit) {
  ParameterTable table;
  fill_table(table, {{2, 12, 4}, {2, 4, 6}, {2, 5}}, at::kFloat);
  Weights& w = table.parameters();
  const at::Tensor x = draw({5, 4}, at::kFloat);
  const auto run = [&](const FfnWeights& weights, Activation kind, std::vector<int64_t> offsets) {
    return ffn_experts(x, weights, kind, offsets);
  };
  EXPECT_THROW(run({&w[0], &w[1]}, Activation::kSwiglu, {0, 2, 4}), CheckError);
  EXPECT_THROW(run({&w[0], &w[1]}, Activation::kSwiglu, {0, 5}), CheckError);
  EXPECT_THROW(run({&w[0], &w[1]}, Activation::kRelu, {0, 2, 5}), CheckError);
  EXPECT_THROW(run({&w[0], &w[1], &w[2]}, Activation::kSwiglu, {0, 2, 5}), CheckError);
}

TEST(Embedding, RefusesAnIdOutsideTheVocabulary) {
  ParameterTable table;
  fill_table(table, {{5, 4}}, at::kFloat);
  EXPECT_ANY_THROW(embedding(at::full({1}, 5, at::kLong), table.parameters()[0]));
}

}  // namespace
}  // namespace switchyard
