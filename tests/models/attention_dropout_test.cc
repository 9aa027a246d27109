#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "models/layers/dropout.h"
#include "tests/models/dropout_context.h"

namespace switchyard::models {
namespace {

constexpr int64_t kSequences = 4, kHeads = 3, kQueries = 8, kKeys = 10;

at::Tensor ones() { return at::ones({kSequences, kHeads, kQueries, kKeys}, at::kDouble); }

TEST(AttentionDropout, DropsTheRateAndScalesTheRest) {
  const at::Tensor dropped = inner_dropout(0.25, training_from(0), 2).drop_weights(ones());
  const at::Tensor is_zero = dropped.eq(0);
  const at::Tensor kept = dropped.masked_select(is_zero.logical_not());
  EXPECT_NEAR(kept.min().item<double>(), 1 / 0.75, 1e-6);
  EXPECT_EQ(kept.min().item<double>(), kept.max().item<double>());
  EXPECT_NEAR(is_zero.to(at::kDouble).mean().item<double>(), 0.25, 0.05);  // 960 draws
}

TEST(AttentionDropout, DependsOnTheTokenNotOnWhereItsSequenceIs) {
  const at::Tensor all = inner_dropout(0.5, training_from(0), 2).drop_weights(ones());
  const at::Tensor rest =
      inner_dropout(0.5, training_from(kQueries), 2).drop_weights(ones().narrow(0, 1, 3));
  EXPECT_TRUE(at::equal(all.narrow(0, 1, 3), rest));
  EXPECT_FALSE(at::equal(all[0], all[1]));
  EXPECT_FALSE(at::equal(all.select(1, 0), all.select(1, 1)));
}

TEST(AttentionDropout, DiffersBetweenLayersAndSteps) {
  const at::Tensor one = inner_dropout(0.5, training_from(0), 2).drop_weights(ones());
  EXPECT_FALSE(at::equal(inner_dropout(0.5, training_from(0), 3).drop_weights(ones()), one));
  StepContext later = training_from(0);
  ++later.key.step;
  EXPECT_FALSE(at::equal(inner_dropout(0.5, later, 2).drop_weights(ones()), one));
}

TEST(AttentionDropout, IsOffInEvaluation) {
  StepContext context = training_from(0);
  context.training = false;
  EXPECT_TRUE(at::equal(inner_dropout(0.5, context, 2).drop_weights(ones()), ones()));
}

}  // namespace
}  // namespace switchyard::models
