#include "parallel/vocabulary.h"

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "parallel/thread.h"
#include "tests/testing/near.h"

namespace switchyard::parallel {
namespace {

using switchyard::testing::is_near;

constexpr int64_t kRows = 300, kWidth = 6, kVocabulary = 24;  // more rows than one block has
constexpr double kScale = 0.25, kZCoefficient = 0.3;

at::Tensor pseudo_random(at::IntArrayRef shape, int seed, at::ScalarType type) {
  const int64_t count = c10::multiply_integers(shape);
  return (at::sin(at::arange(count, at::kDouble) * 1.7 + 13.1 * seed).view(shape) * 3).to(type);
}

// Targets walk through the vocabulary; every fifth row has none.
at::Tensor some_targets() {
  const at::Tensor row = at::arange(kRows, at::kLong);
  return (row * 7).remainder(kVocabulary).masked_fill_(row.remainder(5).eq(4), -1);
}

struct Result {
  at::Tensor value, losses, z, d_hidden, d_weight;
};

// The rows of the vocabulary that `held` covers.
template <typename Loss>
Result loss_of(Loss& loss, const Slice& held, at::ScalarType type) {
  ParameterTable table;
  Parameter& weight = Scope(table).table("weight", {held.size(), kWidth}, {});
  table.allocate(type);
  at::NoGradGuard no_grad;
  weight.value.copy_(pseudo_random({kVocabulary, kWidth}, 2, type).slice(0, held.begin, held.end));
  at::AutoGradMode with_grad(true);
  const at::Tensor hidden = pseudo_random({kRows, kWidth}, 1, type).requires_grad_(true);
  const at::Tensor value = vocabulary_loss(hidden, weight, loss);
  value.backward();
  return {value.detach(), loss.losses(), loss.z(), hidden.grad(), weight.grad};
}

void expect_same_as_whole(int ranks, at::ScalarType type, double tolerance) {
  CrossEntropyLoss whole_loss(some_targets(), kScale, kZCoefficient);
  const Result whole = loss_of(whole_loss, {0, kVocabulary}, type);
  std::vector<at::Tensor> d_hidden(ranks);
  ThreadGroup(ranks).run([&](Communicator& group) {
    DealtCrossEntropyLoss loss(some_targets(), kScale, kZCoefficient, group);
    const Slice held = share_of(kVocabulary, {group.rank(), ranks});
    const Result dealt = loss_of(loss, held, type);
    EXPECT_TRUE(is_near(dealt.value, whole.value, tolerance));
    EXPECT_TRUE(is_near(dealt.losses, whole.losses, tolerance));
    EXPECT_TRUE(is_near(dealt.z, whole.z, tolerance));
    EXPECT_TRUE(is_near(dealt.d_weight, whole.d_weight.slice(0, held.begin, held.end), tolerance));
    d_hidden[group.rank()] = dealt.d_hidden;
  });
  EXPECT_TRUE(is_near(at::stack(d_hidden).sum(0), whole.d_hidden, tolerance));
}

TEST(DealtCrossEntropyLoss, IsTheLossOfTheWholeVocabulary) {
  for (const int ranks : {1, 2, 4}) {
    expect_same_as_whole(ranks, at::kDouble, 1e-12);
    expect_same_as_whole(ranks, at::kFloat, 1e-5);
  }
}

TEST(DealtCrossEntropyLoss, RefusesATargetOutsideTheVocabulary) {
  ThreadGroup(2).run([](Communicator& group) {
    DealtCrossEntropyLoss loss(at::full({1}, 8, at::kLong), 1, 0, group);
    loss.begin(1, at::TensorOptions(at::kFloat));
    EXPECT_THROW(loss.add(at::zeros({1, 4}), 0, false), CheckError);
  });
}

}  // namespace
}  // namespace switchyard::parallel
