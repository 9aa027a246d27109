// A mixture beside shared experts (DeepSeekMoE, Dai et al., 2024) against its formula:
//   y = sum over the chosen of weight_e expert_e(x) + sum over the shared of expert_s(x)
// in which no routing weight touches the second sum; Qwen multiplies it by sigmoid(w_s x).

#include <gtest/gtest.h>

#include "core/config/reader.h"
#include "models/moe/moe_layer.h"
#include "parallel/single.h"
#include "tests/models/oracle.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using oracle::Weights;
using switchyard::testing::is_near;

constexpr int64_t kTokens = 10, kWidth = 12, kShared = 3, kSharedWidth = 7;

config::Model model_with(const std::string& shared, const std::string& moe) {
  return config::load_config_text(
             "model { num_layers: 1 d_model: 12 vocab_size: 8 attention { num_heads: 2 } "
             "moe { num_experts: 5 top_k: 2 d_ff: 9 shared_expert { count: 3 d_ff: 7 " +
                 shared + " } " + moe + " } } data { synthetic {} } train { steps: 1 " +
                 "global_batch: 1 }",
             "oracle_shared_expert_test")
      .model();
}

struct Instance {
  explicit Instance(const config::Model& model)
      : world(parallel::make_single()),
        mesh(*world, MeshShape()),
        layer(Scope(table, mesh.layout()) / "moe", model, mesh, 0, 0) {
    table.allocate(at::kDouble);
    oracle::fill(table);
  }
  at::Tensor forward(const at::Tensor& x_TD) {
    const at::NoGradGuard no_grad;
    StepContext context;
    context.group_tokens = kTokens;
    return layer.forward(x_TD, context, decision);
  }

  std::unique_ptr<parallel::Communicator> world;
  parallel::Mesh mesh;
  ParameterTable table;
  MoeLayer layer;
  RoutingDecision decision;
};

at::Tensor input() {
  at::manual_seed(6);
  return at::randn({kTokens, kWidth}, at::kDouble);
}

// The shared experts one by one, each cut out of the matrices in which they lie side by side.
at::Tensor shared(const at::Tensor& x_D, const Weights& w) {
  at::Tensor y_D = at::zeros_like(x_D);
  for (int64_t i = 0; i < kShared; ++i) {
    const auto rows = [&](int64_t matrix) {
      return w["w13"].narrow(0, (matrix * kShared + i) * kSharedWidth, kSharedWidth);
    };
    const at::Tensor w2 = w["w2"].narrow(1, i * kSharedWidth, kSharedWidth);
    y_D = y_D + oracle::ffn(x_D, at::concat({rows(0), rows(1)}), w2, oracle::silu);
  }
  if (!w.has("gate")) return y_D;
  return y_D / (1 + std::exp(-oracle::sum_of(w["gate"][0] * x_D)));
}

struct Case {
  const char *name, *shared, *moe;
  oracle::MoeRule rule;
  double route_scale;  // DeepSeek's factor on the routed sum
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class SharedExpertOracle : public ::testing::TestWithParam<Case> {};

TEST_P(SharedExpertOracle, AddsTheSharedExpertsWithoutARoutingWeight) {
  const Case& c = GetParam();
  Instance instance(model_with(c.shared, c.moe));
  const Weights w = Weights(instance.table) / "moe";
  const at::Tensor x = input(), y = instance.forward(x);
  for (int64_t t = 0; t < kTokens; ++t) {
    const at::Tensor routed = oracle::moe(x[t], w, c.rule) * c.route_scale;
    EXPECT_TRUE(is_near(y[t], routed + shared(x[t], w / "shared_expert"), 1e-12)) << t;
  }
}

// Weights that do not sum to 1, or the shared sum times theirs would be the shared sum.
const Case kCases[] = {
    {"Raw", "", "router { weighting: RAW }", {2, false, oracle::silu}, 1},
    {"Scaled", "", "router { route_scale: 2.5 }", {2, true, oracle::silu}, 2.5},
    {"Gated", "sigmoid_gate: true", "router { weighting: RAW }", {2, false, oracle::silu}, 1},
};
INSTANTIATE_TEST_SUITE_P(Weightings, SharedExpertOracle, ::testing::ValuesIn(kCases),
                         [](const auto& test) { return test.param.name; });

TEST(SharedExpert, IsAllThatADroppedTokenGets) {
  Instance instance(model_with(
      "",
      "capacity { policy: BY_POSITION eval_factor: 0.3 minimum: 1 } router { weighting: RAW }"));
  const at::Tensor x = input(), y = instance.forward(x);
  const Weights w = Weights(instance.table) / "moe";
  const at::Tensor has_place = instance.decision.plan->row_of_slot_TK.ge(0).any(1);
  ASSERT_LT(has_place.sum().item<int64_t>(), kTokens);
  for (int64_t t = 0; t < kTokens; ++t) {
    const bool alone = is_near(y[t], shared(x[t], w / "shared_expert"), 1e-12);
    EXPECT_EQ(alone, !has_place[t].item<bool>()) << t;
  }
}

}  // namespace
}  // namespace switchyard::models
