// Which routing lets a later token change an earlier output. What only training or only full
// experts allow is driven here without the config's rules, which refuse or report it.

#include <gtest/gtest.h>

#include "models/model.h"
#include "tests/models/decoder_fixture.h"

namespace switchyard::models {
namespace {

struct Case {
  const char* name;
  const char* moe;
  bool in_training, in_evaluation;  // whether later tokens are seen
  const char* model = "attention { num_heads: 4 }";
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// Whether some change of a token changes a bit of some earlier loss.
bool sees_later_tokens(const DecoderInstance& instance, bool training) {
  const at::Tensor before = instance.losses(batch(), training);
  for (int64_t changed = 1; changed < kLength; ++changed) {
    for (const int64_t by : {5, 11, 17}) {
      TokenBatch other = batch();
      other.tokens_BS.select(1, changed).add_(by).remainder_(kVocab);
      const at::Tensor after = instance.losses(other, training);
      EXPECT_FALSE(at::equal(after.slice(1, changed), before.slice(1, changed)));
      if (!at::equal(after.slice(1, 0, changed), before.slice(1, 0, changed))) return true;
    }
  }
  return false;
}

struct Causality : ::testing::TestWithParam<Case> {};

TEST_P(Causality, IsAsStated) {
  DecoderInstance instance(model_of(
      GetParam().model + std::string(" moe { num_experts: 4 d_ff: 24 allow_future: true ") +
      GetParam().moe + " }"));
  for (Parameter& p : instance.table.parameters()) {  // which start at 0
    if (p.name.ends_with("selection_bias")) p.master.copy_(at::arange(4) * -0.01);
  }
  EXPECT_EQ(sees_later_tokens(instance, true), GetParam().in_training);
  EXPECT_EQ(sees_later_tokens(instance, false), GetParam().in_evaluation);
}

// Capacities at which experts overflow, in evaluation too.
constexpr Case kCases[] = {
    {"Dropless", "top_k: 2", false, false},
    {"Top1ByPosition",
     "top_k: 1 capacity { policy: BY_POSITION train_factor: 0.7 eval_factor: 0.7 minimum: 1 }",
     false, false},
    {"LstmTop1ByPosition",
     "top_k: 1 capacity { policy: BY_POSITION train_factor: 0.7 eval_factor: 0.7 minimum: 1 }",
     false, false, "architecture: LSTM_LM lstm { hidden: 20 }"},
    {"SwitchProjectionsTop1ByPosition",
     "top_k: 1 capacity { policy: BY_POSITION train_factor: 0.7 eval_factor: 0.7 minimum: 1 }",
     false, false, "attention { num_heads: 4 switch_projections: true }"},
    {"Hash", "top_k: 2 router { selection: HASH weighting: RENORMALIZE }", false, false},
    {"TwoLevel", "top_k: 2 router { hierarchy: TWO_LEVEL num_groups: 2 group_top_k: 1 }", false,
     false},
    {"BiasedGroups",
     "top_k: 2 router { score: SIGMOID selection_bias: true num_groups: 2 group_top_k: 1 "
     "group_score_experts: 2 }",
     false, false},
    {"Top2ByPosition",
     "top_k: 2 capacity { policy: BY_POSITION train_factor: 0.7 eval_factor: 0.7 minimum: 1 }",
     true, true},
    {"Top2ByPositionWithRoom",
     "top_k: 2 capacity { policy: BY_POSITION train_factor: 4 eval_factor: 4 }", false, false},
    {"Top2ByPositionFirstAlone",
     "top_k: 2 router { second_choice: NEVER } capacity { policy: BY_POSITION train_factor: 0.7 "
     "eval_factor: 0.7 minimum: 1 }",
     false, false},
    {"NextFree",
     "top_k: 1 capacity { policy: NEXT_FREE rounds: 3 train_factor: 0.7 eval_factor: 0.7 }", true,
     true},
    {"NextFreeOfOneRound",
     "top_k: 1 capacity { policy: NEXT_FREE rounds: 1 train_factor: 0.7 eval_factor: 0.7 }", false,
     false},
    {"BatchPrioritized",
     "top_k: 1 capacity { policy: BATCH_PRIORITIZED train_factor: 0.7 eval_factor: 0.7 minimum: 1 "
     "}",
     true, true},
    {"ByProbability",
     "top_k: 1 capacity { policy: BY_PROBABILITY train_factor: 0.7 eval_factor: 0.7 minimum: 1 }",
     true, true},
    {"AtRandomOrder",
     "top_k: 1 capacity { policy: AT_RANDOM_ORDER train_factor: 0.7 eval_factor: 0.7 minimum: 1 }",
     true, false},
    {"DeviceBudget",
     "top_k: 2 num_devices: 2 capacity { policy: DEVICE_BUDGET train_factor: 0.7 exempt_share: 0 }",
     true, false},
    {"ExpertChoice", "top_k: 1 router { selection: EXPERT_CHOICE }", true, true},
    {"Sinkhorn", "top_k: 1 router { selection: SINKHORN }", true, false},
    {"StrictlyBalanced", "top_k: 2 router { selection: STRICTLY_BALANCED }", true, false},
    {"BalancedAssignment", "top_k: 1 router { selection: BALANCED_ASSIGNMENT }", true, false},
};

INSTANTIATE_TEST_SUITE_P(Rules, Causality, ::testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace switchyard::models
