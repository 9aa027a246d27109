#include "core/tensor/parameter.h"
#include "core/tensor/aten.h"

#include <gtest/gtest.h>

#include "core/base/errors.h"

namespace switchyard {
namespace {

void fill(ParameterTable& table, Slice held) {
  const Scope root(table);
  const Scope layer = root / "layers" / 3;
  layer.parameter("norm.weight", {5}, {Init::kConstant, 1.0}, /*decay=*/false);
  layer.parameter("attention.q", {6, 5}, {});
  (layer / "moe").expert_parameter("experts.w2", {4, 3, 7}, held, {});
  root.parameter("embedding", {11, 5}, {Init::kNormal, 0.1});
}

TEST(ParameterTable, NamesParametersByTheirPlaceInTheTree) {
  ParameterTable table;
  fill(table, {0, 4});
  EXPECT_EQ(table.parameters()[0].name, "layers.3.norm.weight");
  EXPECT_EQ(table.parameters()[2].name, "layers.3.moe.experts.w2");
}

TEST(ParameterTable, GroupsByReplicasAndDecayInAFixedOrder) {
  ParameterTable table;
  fill(table, {1, 3});
  table.allocate(at::kFloat);
  ASSERT_EQ(table.groups().size(), 3u);
  EXPECT_EQ(table.groups()[0].parameters.size(), 2u);
  EXPECT_TRUE(table.groups()[0].decay);
  EXPECT_EQ(table.groups()[1].parameters[0]->name, "layers.3.norm.weight");
  EXPECT_FALSE(table.groups()[1].decay);
  EXPECT_EQ(table.groups()[2].replicas, Replicas::kExpertData);
  EXPECT_EQ(table.parameters()[2].value.sizes(), at::IntArrayRef({2, 3, 7}));
}

TEST(ParameterTable, GivesAlignedViewsIntoFlatBuffers) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    ParameterTable table;
    fill(table, {0, 4});
    table.allocate(type);
    for (const ParameterGroup& group : table.groups()) {
      for (const Parameter* parameter : group.parameters) {
        EXPECT_TRUE(parameter->value.is_alias_of(group.value));
        EXPECT_TRUE(parameter->grad.is_alias_of(group.grad));
        EXPECT_TRUE(parameter->value.is_leaf() && parameter->value.requires_grad());
        for (const at::Tensor& x : {parameter->value, parameter->master, parameter->grad}) {
          EXPECT_EQ(reinterpret_cast<uintptr_t>(x.data_ptr()) % 64, 0u) << parameter->name;
        }
      }
      EXPECT_EQ(group.value.is_alias_of(group.master), type != at::kBFloat16);
    }
  }
}

TEST(ParameterTable, LeavesThePaddingZero) {
  ParameterTable table;
  fill(table, {0, 4});
  table.allocate(at::kBFloat16);
  table.initialize(1);
  for (const ParameterGroup& group : table.groups()) {
    double inside = 0;
    for (const Parameter* parameter : group.parameters) {
      inside += parameter->master.to(at::kDouble).abs().sum().item<double>();
    }
    EXPECT_NEAR(group.master.to(at::kDouble).abs().sum().item<double>(), inside, 1e-9);
  }
}

TEST(ParameterTable, InitialisesASliceLikeTheWhole) {
  ParameterTable whole, part;
  fill(whole, {0, 4});
  fill(part, {1, 3});
  for (ParameterTable* table : {&whole, &part}) {
    table->allocate(at::kBFloat16);
    table->initialize(42);
  }
  const at::Tensor all = whole.parameters()[2].master, held = part.parameters()[2].master;
  EXPECT_TRUE(at::equal(all.narrow(0, 1, 2), held));
  EXPECT_TRUE(at::equal(held.to(at::kBFloat16), part.parameters()[2].value));
}

TEST(ParameterTable, InitialValuesDependOnNameAndSeedAndHaveTheAskedDeviation) {
  ParameterTable table, other;
  for (ParameterTable* t : {&table, &other}) {
    t->add({"a", {200, 100}, {}, {Init::kNormal, 0.3}, true, {}, {}, {}, {}});
    t->add({"b", {200, 100}, {}, {Init::kNormal, 0.3}, true, {}, {}, {}, {}});
    t->add({"c", {3}, {}, {Init::kConstant, 2.5}, true, {}, {}, {}, {}});
    t->allocate(at::kFloat);
  }
  table.initialize(1);
  other.initialize(2);
  const auto& [a, b, c] =
      std::tie(table.parameters()[0], table.parameters()[1], table.parameters()[2]);
  EXPECT_NEAR(a.master.std().item<double>(), 0.3, 0.01);
  EXPECT_NEAR(a.master.mean().item<double>(), 0, 0.01);
  EXPECT_FALSE(at::equal(a.master, b.master));
  EXPECT_FALSE(at::equal(a.master, other.parameters()[0].master));
  EXPECT_TRUE(at::equal(c.master, at::full({3}, 2.5f)));
}

TEST(ParameterTable, RefreshesTheValueFromTheMaster) {
  ParameterTable table;
  fill(table, {0, 4});
  table.allocate(at::kBFloat16);
  table.parameters()[1].master.fill_(0.75);
  table.groups()[0].refresh_value();
  EXPECT_TRUE(
      at::equal(table.parameters()[1].value.detach(), at::full({6, 5}, 0.75, at::kBFloat16)));
}

TEST(ParameterTable, RefusesASecondParameterOfTheSameName) {
  ParameterTable table;
  fill(table, {0, 4});
  EXPECT_THROW(Scope(table).parameter("embedding", {1}, {}), CheckError);
}

TEST(ParameterTable, RefusesExpertsOutsideTheStack) {
  ParameterTable table;
  EXPECT_THROW(Scope(table).expert_parameter("w", {4, 2}, {2, 5}, {}), CheckError);
}

TEST(Use, AccumulatesTheGradientIntoTheParameter) {
  ParameterTable table;
  fill(table, {0, 4});
  table.allocate(at::kBFloat16);
  Parameter& weight = table.parameters()[1];
  for (int i = 0; i < 2; ++i) (use(weight, at::kFloat) * 3).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad, at::full({6, 5}, 6.0f)));
  EXPECT_FALSE(weight.value.grad().defined());
  table.zero_gradients();
  EXPECT_EQ(weight.grad.sum().item<float>(), 0);
}

TEST(Use, OfTheSameTypeStillSendsTheGradientToTheParameter) {
  ParameterTable table;
  fill(table, {0, 4});
  table.allocate(at::kFloat);
  Parameter& weight = table.parameters()[1];
  (use(weight, at::kFloat) * 3).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad, at::full({6, 5}, 3.0f)));
}

}  // namespace
}  // namespace switchyard
