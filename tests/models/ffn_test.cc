// Experts, shared experts and dense sub-layers in all their forms, against plain formulas.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/config/layers.h"
#include "core/tensor/aten.h"
#include "models/decoder.h"
#include "models/layers/expert_matrices.h"
#include "models/moe/rules/expert_dropout.h"
#include "parallel/single.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"
#include "tests/testing/reference.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;
using switchyard::testing::tiny_config;

constexpr int64_t kTokens = 24, kWidth = 16;

// A module on one rank, its parameters filled.
template <typename Module>
struct Instance {
  template <typename Make>
  explicit Instance(Make&& make) : module(make(table)) {
    table.allocate(at::kDouble);
    table.initialize(7);
  }
  at::Tensor weight(const std::string& name) const {
    for (const Parameter& p : table.parameters())
      if (p.name == name) return p.master;
    throw CheckError("no parameter " + name);
  }
  ParameterTable table;
  Module module;
};

at::Tensor input() {
  at::manual_seed(4);
  return at::randn({kTokens, kWidth}, at::kDouble);
}

TEST(DenseFfn, FollowsItsConfig) {
  config::Model model = tiny_config().model();
  model.set_ffn_bias(config::MULTIPLICATIVE);
  Instance<DenseFfn> gated([&](ParameterTable& table) {
    return DenseFfn(Scope(table) / "ffn", model, config::GEGLU, 12);
  });
  gated.weight("ffn.scale").uniform_(0.5, 2);
  const at::Tensor x = input(), h = at::mm(x, gated.weight("ffn.w13").t());
  const at::Tensor hidden =
      at::gelu(h.slice(1, 0, 12)) * h.slice(1, 12) * gated.weight("ffn.scale");
  EXPECT_TRUE(is_near(gated.module.forward(x), at::mm(hidden, gated.weight("ffn.w2").t())));

  model.set_ffn_bias(config::ADDITIVE);
  Instance<DenseFfn> plain([&](ParameterTable& table) {
    return DenseFfn(Scope(table) / "ffn", model, config::SQUARED_RELU, 12);
  });
  plain.weight("ffn.shift").uniform_(-1, 1);
  const at::Tensor r = at::relu(at::mm(x, plain.weight("ffn.w1").t()));
  EXPECT_TRUE(is_near(plain.module.forward(x),
                      at::mm(r * r + plain.weight("ffn.shift"), plain.weight("ffn.w2").t())));
}

TEST(DeepExperts, AreEachALineOfMatricesWithTheirGradients) {
  config::Model model = tiny_config().model();
  model.mutable_moe()->set_num_experts(2);
  model.mutable_moe()->set_d_ff(6);
  model.mutable_moe()->set_hidden_layers(2);
  Instance<ExpertMatrices> experts(
      [&](ParameterTable& table) { return ExpertMatrices(Scope(table) / "experts", model); });
  const at::Tensor x = input();
  const auto forward = [&] { return experts.module.forward(x, {0, 10, kTokens}); };
  std::vector<at::Tensor> parts{x.slice(0, 0, 10), x.slice(0, 10)};
  for (int64_t e = 0; e < 2; ++e) {
    for (int i = 0; i < 3; ++i) {
      const at::Tensor weight = experts.weight(fmt::format("experts.layers.{}.weight", i))[e];
      parts[e] = at::mm(i == 0 ? parts[e] : at::relu(parts[e]), weight.t());
    }
  }
  EXPECT_TRUE(is_near(forward(), at::concat(parts)));
  forward().square().sum().backward();
  const auto value = [&] {
    const at::NoGradGuard no_grad;
    return forward().square().sum().item<double>();
  };
  for (const Parameter& parameter : experts.table.parameters()) {
    SCOPED_TRACE(parameter.name);
    expect_gradient(parameter.master, parameter.grad, value, {.most_elements = 20});
  }
}

TEST(FfnBias, StartsWithoutEffect) {
  config::Model model = tiny_config().model();
  const auto make = [&](ParameterTable& table) {
    return DenseFfn(Scope(table) / "ffn", model, config::SWIGLU, 12);
  };
  const at::Tensor expected = Instance<DenseFfn>(make).module.forward(input());
  for (const auto bias : {config::MULTIPLICATIVE, config::ADDITIVE}) {
    model.set_ffn_bias(bias);
    EXPECT_TRUE(at::equal(Instance<DenseFfn>(make).module.forward(input()), expected));
  }
}

TEST(SharedExpert, IsMultipliedByItsSigmoidGate) {
  config::Model model = tiny_config().model();
  auto& options = *model.mutable_moe()->mutable_shared_expert();
  options.set_count(2);
  options.set_d_ff(6);
  options.set_ffn(config::RELU);
  options.set_sigmoid_gate(true);
  const Instance<SharedExpert> shared(
      [&](ParameterTable& table) { return SharedExpert(Scope(table) / "shared_expert", model); });
  const at::Tensor x = input(), gate = shared.weight("shared_expert.gate");
  // Two experts of width 6, each from its own rows and columns, added up.
  at::Tensor sum = at::zeros_like(x);
  for (const int64_t i : {0, 6}) {
    const at::Tensor w1 = shared.weight("shared_expert.w1").slice(0, i, i + 6);
    const at::Tensor w2 = shared.weight("shared_expert.w2").slice(1, i, i + 6);
    sum += at::mm(at::relu(at::mm(x, w1.t())), w2.t());
  }
  EXPECT_EQ(gate.sizes(), at::IntArrayRef({1, kWidth}));
  EXPECT_TRUE(is_near(shared.module.forward(x, Rows()), sum * at::sigmoid(at::mm(x, gate.t()))));
}

TEST(ExpertDropout, DropsItsShareInTrainingAndNothingInEvaluation) {
  config::Moe moe;
  moe.set_num_experts(2);
  moe.set_d_ff(500);
  moe.set_expert_dropout(0.25);
  const auto world = parallel::make_single();
  const parallel::SlotOrder order{at::arange(5, at::kLong), at::tensor({2, 3}, at::kLong), 5, 1};
  const auto plan = parallel::make_plan(order, *world, 1);
  const HeldExperts held{{0, 2}, {0, 500}};
  StepContext context;
  EXPECT_FALSE(expert_dropout_mask(moe, context, 0, plan, held).defined());
  context.training = true;
  const at::Tensor mask = expert_dropout_mask(moe, context, 0, plan, held);
  EXPECT_EQ(mask.sizes(), at::IntArrayRef({5, 500}));
  EXPECT_NEAR(mask.eq(0).to(at::kDouble).mean().item<double>(), 0.25, 0.03);
  EXPECT_EQ(mask.max().item<float>(), static_cast<float>(4.0 / 3));
  const at::Tensor some = expert_dropout_mask(moe, context, 0, plan, {{0, 2}, {100, 300}});
  EXPECT_TRUE(at::equal(some, mask.slice(1, 100, 300)));
  context.key.step = 1;
  EXPECT_FALSE(at::equal(expert_dropout_mask(moe, context, 0, plan, held), mask));
}

TEST(Stacking, AddsADenseSubLayerBesideEachMoeSubLayerOnly) {
  config::Model model = switchyard::testing::tiny_expert_forms(config::DENSE_AFTER).model();
  model.mutable_moe()->set_first_layer(1);
  const auto world = parallel::make_single();
  const parallel::Mesh mesh(*world, MeshShape());
  ParameterTable table;
  const Decoder decoder(Scope(table), model, mesh, {0, model.num_layers()});
  const auto has = [&](const std::string& name) {
    return std::ranges::count(table.parameters(), name, &Parameter::name) == 1;
  };
  EXPECT_TRUE(has("layers.1.extra_ffn.w13") && has("layers.1.extra_ffn_norm"));
  EXPECT_TRUE(has("layers.1.moe.experts.w1") && has("layers.0.ffn.w13"));
  EXPECT_FALSE(has("layers.0.extra_ffn.w13"));
}

}  // namespace
}  // namespace switchyard::models
