#include "core/tensor/parameter.h"
#include "core/tensor/aten.h"

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/tensor/ops.h"

namespace switchyard {
namespace {

void fill(ParameterTable& table, const Place& expert = {}) {
  Layout layout;
  layout[Axis::kExpert] = expert;
  const Scope root(table, layout);
  const Scope layer = root / "layers" / 3;
  layer.vector("norm.weight", {5}, Use::kScale, {Init::kConstant, 1.0});
  layer.matrix("attention.q", {6, 5}, {});
  (layer / "moe").of_experts(4).matrix("experts.w2", {3, 7}, {});
  root.table("embedding", {11, 5}, {Init::kNormal, 0.1});
}

TEST(ParameterTable, NamesParametersByTheirPlaceInTheTree) {
  ParameterTable table;
  fill(table);
  EXPECT_EQ(table.parameters()[0].name, "layers.3.norm.weight");
  EXPECT_EQ(table.parameters()[2].name, "layers.3.moe.experts.w2");
}

TEST(ParameterTable, GroupsByReplicasAndDecayInAFixedOrder) {
  ParameterTable table;
  fill(table, {1, 2});
  table.allocate(at::kFloat);
  ASSERT_EQ(table.groups().size(), 3u);
  EXPECT_EQ(table.groups()[0].parameters.size(), 2u);
  EXPECT_TRUE(table.groups()[0].decay);
  EXPECT_EQ(table.groups()[1].parameters[0]->name, "layers.3.norm.weight");
  EXPECT_FALSE(table.groups()[1].decay);
  EXPECT_EQ(table.groups()[2].summed, AxisSet{Axis::kExpertData});
  EXPECT_EQ(table.groups()[2].cut, AxisSet{Axis::kExpert});
  EXPECT_EQ(table.parameters()[2].value.sizes(), at::IntArrayRef({2, 3, 7}));
}

TEST(ParameterTable, KeepsNoGradientOfWhatDoesNotTrain) {
  ParameterTable table;
  fill(table);
  Parameter& frozen = table.parameters()[1];
  frozen.trains = false;
  table.allocate(at::kBFloat16);
  table.initialize(1);
  EXPECT_EQ(table.groups().size(), 4u);
  EXPECT_EQ(table.trained_groups().size(), 3u);
  const ParameterGroup& rests = table.groups().back();
  EXPECT_EQ(rests.parameters, std::vector<Parameter*>{&frozen});
  EXPECT_FALSE(rests.trains || rests.grad.defined() || frozen.grad.defined());
  EXPECT_FALSE(frozen.value.requires_grad());
  EXPECT_TRUE(at::equal(frozen.value, frozen.master.to(at::kBFloat16)));
  EXPECT_FALSE(use(frozen, at::kFloat).requires_grad());
  table.zero_gradients();
}

TEST(ParameterTable, GivesAlignedViewsIntoFlatBuffers) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kDouble}) {
    ParameterTable table;
    fill(table);
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
  fill(table);
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
  fill(whole);
  fill(part, {1, 2});
  for (ParameterTable* table : {&whole, &part}) {
    table->allocate(at::kBFloat16);
    table->initialize(42);
  }
  const at::Tensor all = whole.parameters()[2].master, held = part.parameters()[2].master;
  EXPECT_TRUE(at::equal(all.narrow(0, 2, 2), held));
  EXPECT_TRUE(at::equal(held.to(at::kBFloat16), part.parameters()[2].value));
}

TEST(ParameterTable, InitialValuesDependOnNameAndSeedAndHaveTheAskedDeviation) {
  ParameterTable table, other;
  for (ParameterTable* t : {&table, &other}) {
    Scope(*t).matrix("a", {200, 100}, {Init::kNormal, 0.3});
    Scope(*t).matrix("b", {200, 100}, {Init::kNormal, 0.3});
    Scope(*t).vector("c", {3}, Use::kShift, {Init::kConstant, 2.5});
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

TEST(Parameter, StoresNumbersInMasterAndValue) {
  ParameterTable table;
  fill(table);
  table.allocate(at::kBFloat16);
  Parameter& parameter = table.parameters()[1];
  parameter.store(at::full({6, 5}, 0.75, at::kFloat));
  parameter.store({5, 10}, at::full({5}, 1 + 0x1p-20, at::kFloat));
  const at::Tensor expected = at::full({6, 5}, 0.75, at::kDouble);
  expected[1].fill_(1 + 0x1p-20);
  EXPECT_TRUE(at::equal(parameter.master.to(at::kDouble), expected));
  expected[1].fill_(1);
  EXPECT_TRUE(at::equal(parameter.value.detach().to(at::kDouble), expected));
}

TEST(ParameterTable, RefusesASecondParameterOfTheSameName) {
  ParameterTable table;
  fill(table);
  EXPECT_THROW(Scope(table).matrix("embedding", std::vector<int64_t>{1}, Init()), CheckError);
}

TEST(ParameterTable, RefusesExpertsThatCannotBeDealtEvenly) {
  ParameterTable table;
  EXPECT_THROW(fill(table, {0, 3}), CheckError);
}

// Two gates of a stack of experts, dealt over four ranks: over the experts, and each gate's rows.
struct Dealt {
  explicit Dealt(int rank) {
    Layout layout;
    layout[Axis::kExpert] = {rank / 2, 2};
    layout[Axis::kData] = {rank % 2, 2};
    const Scope scope = Scope(table, layout).of_experts(4);
    const Init narrow{Init::kNormal, 1, 2, false, /*factor=*/0.5};
    Parameter& added = scope.matrix("w13", {{"w1", 6, {Init::kNormal, 1}}, {"w3", 2, narrow}}, 5);
    added.cuts.push_back({Axis::kData, 1});
    table.allocate(at::kDouble);
    table.initialize(3);
  }
  const Parameter& w13() const { return table.parameters()[0]; }

  ParameterTable table;
};

TEST(Pieces, AreWhatARankHoldsOfEachPart) {
  const Dealt dealt(3);
  const std::vector<Piece> pieces = dealt.w13().pieces();
  EXPECT_EQ(dealt.w13().local_shape(), (std::vector<int64_t>{2, 4, 5}));
  ASSERT_EQ(pieces.size(), 2u);
  EXPECT_EQ(pieces[0].global.offset, (std::vector<int64_t>{2, 3, 0}));
  EXPECT_EQ(pieces[0].global.extent, (std::vector<int64_t>{2, 3, 5}));
  EXPECT_EQ(pieces[0].local.offset, (std::vector<int64_t>{0, 0, 0}));
  EXPECT_EQ(pieces[1].global.offset, (std::vector<int64_t>{2, 7, 0}));
  EXPECT_EQ(pieces[1].global.extent, (std::vector<int64_t>{2, 1, 5}));
  EXPECT_EQ(pieces[1].local.offset, (std::vector<int64_t>{0, 3, 0}));
}

TEST(Pieces, OfAllRanksStartAsTheWholeDoes) {
  ParameterTable table;
  const Init narrow{Init::kNormal, 1, 2, false, /*factor=*/0.5};
  Parameter& whole = Scope(table).of_experts(4).matrix(
      "w13", {{"w1", 6, {Init::kNormal, 1}}, {"w3", 2, narrow}}, 5);
  table.allocate(at::kDouble);
  table.initialize(3);
  EXPECT_NEAR(whole.master.narrow(1, 6, 2).std().item<double>(), 0.5, 0.15);
  at::Tensor seen = at::zeros_like(whole.master);
  for (int rank = 0; rank < 4; ++rank) {
    const Dealt dealt(rank);
    for (const Piece& piece : dealt.w13().pieces()) {
      EXPECT_TRUE(
          at::equal(view_of(dealt.w13().master, piece.local), view_of(whole.master, piece.global)));
      view_of(seen, piece.global).add_(1);
    }
  }
  EXPECT_TRUE(at::equal(seen, at::ones_like(seen)));
}

TEST(Use, AccumulatesTheGradientIntoTheParameter) {
  ParameterTable table;
  fill(table);
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
  fill(table);
  table.allocate(at::kFloat);
  Parameter& weight = table.parameters()[1];
  (use(weight, at::kFloat) * 3).sum().backward();
  EXPECT_TRUE(at::equal(weight.grad, at::full({6, 5}, 3.0f)));
}

}  // namespace
}  // namespace switchyard
