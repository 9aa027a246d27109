// Parts of a model of text, each with the parameters that it holds alone: together they are the
// whole.

#include "models/text_model.h"

#include <algorithm>
#include <memory>

#include <gtest/gtest.h>

#include "core/config/layers.h"
#include "models/decoder.h"
#include "models/lstm_lm.h"
#include "tests/models/decoder_fixture.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

constexpr int64_t kLayers = 4;
constexpr double kScale = 1.0 / (kRows * kLength);

std::unique_ptr<TextModel> make_part(const Scope& root, const config::Model& model,
                                     const parallel::Mesh& mesh, const Slice& held) {
  if (model.architecture() == config::LSTM_LM)
    return std::make_unique<LstmLm>(root, model, mesh, held);
  return std::make_unique<Decoder>(root, model, mesh, held);
}

// What a rank of a pipeline has.
struct PartInstance {
  PartInstance(const config::Model& config, const Slice& held)
      : world(parallel::make_single()),
        mesh(*world, MeshShape()),
        part(make_part(Scope(table), config, mesh, held)) {
    table.allocate(at::kDouble);
    table.initialize(5);
  }
  const Parameter* find(const std::string& name) const {
    const auto found = std::ranges::find(table.parameters(), name, &Parameter::name);
    return found == table.parameters().end() ? nullptr : &*found;
  }

  std::unique_ptr<parallel::Communicator> world;
  parallel::Mesh mesh;
  ParameterTable table;
  std::unique_ptr<TextModel> part;
};

// As a pipeline does: what crosses from part to part are rows, and in backward their gradients.
at::Tensor train_in_parts(const PartInstance& front, const PartInstance& back,
                          const StepContext& context, bool recompute) {
  const TokenBatch tokens = batch();
  const Pass first = front.part->begin(tokens, context, recompute);
  const at::Tensor sent_TD = front.part->advance({}, first);
  const at::Tensor received_TD = sent_TD.detach().requires_grad_();
  const Pass second = back.part->begin(tokens, context, recompute);
  const at::Tensor x_TD = back.part->advance(received_TD, second);
  const at::Tensor loss = text_loss(*back.part, x_TD, tokens, second, kScale);
  loss.backward();
  sent_TD.backward(received_TD.grad());
  return loss;
}

// What both parts hold, the shared tables, get their gradients in two sums.
void expect_gradients_of_parts(const DecoderInstance& whole, const PartInstance& front,
                               const PartInstance& back) {
  for (const Parameter& parameter : whole.table.parameters()) {
    const Parameter *a = front.find(parameter.name), *b = back.find(parameter.name);
    ASSERT_TRUE(a || b) << parameter.name;
    if (a && b)
      EXPECT_TRUE(is_near(a->grad + b->grad, parameter.grad, 1e-12)) << parameter.name;
    else
      EXPECT_TRUE(at::equal((a ? a : b)->grad, parameter.grad)) << parameter.name;
  }
}

struct Case {
  const char* name;
  const char* text;        // of the model
  const char* of_both;     // the parameter that both parts hold; "": none
  const char* not_behind;  // one that the second part does without
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class PartsOfModel : public ::testing::TestWithParam<Case> {
 protected:
  PartsOfModel() : model(model_of(GetParam().text)) { model.set_num_layers(kLayers); }
  config::Model model;
};

TEST_P(PartsOfModel, HaveTheLossGradientsAndLoadsOfTheWhole) {
  for (const bool recompute : {false, true}) {
    for (const int64_t cut : {1, 2, 3}) {
      DecoderInstance whole(model);
      std::vector<RoutingSums> expected(config::num_routers(model)), actual(expected.size());
      StepContext context = whole.context_of(batch(), /*training=*/true);
      context.routing.sums = &expected;
      const at::Tensor loss = whole.model.loss(batch(), context, kScale, recompute);
      loss.backward();
      const PartInstance front(model, {0, cut}), back(model, {cut, kLayers});
      context.routing.sums = &actual;
      EXPECT_TRUE(at::equal(train_in_parts(front, back, context, recompute), loss)) << cut;
      expect_gradients_of_parts(whole, front, back);
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_TRUE(at::equal(actual[i].load_E, expected[i].load_E)) << i << " cut at " << cut;
    }
  }
}

TEST_P(PartsOfModel, HoldOnlyWhatTheyNeed) {
  const PartInstance front(model, {0, 2}), middle(model, {2, 3}), back(model, {3, kLayers});
  for (const Parameter& parameter : middle.table.parameters())
    EXPECT_TRUE(parameter.name.starts_with("layers.2.") || parameter.name == GetParam().of_both)
        << parameter.name;
  EXPECT_FALSE(front.part->has_head());
  EXPECT_TRUE(back.part->has_head());
  EXPECT_EQ(back.find(GetParam().not_behind), nullptr);
}

INSTANTIATE_TEST_SUITE_P(
    Models, PartsOfModel,
    ::testing::Values(
        Case{"Tied",
             "d_ff: 24 attention { num_heads: 4 } output_z_loss_coefficient: 0.1 "
             "mtp { weight: 0.3 } moe { num_experts: 4 d_ff: 24 first_layer: 1 every_n_layers: 2 }",
             "", "layers.2.ffn.w13"},
        Case{"Untied",
             "attention { num_heads: 4 switch_projections: true } "
             "tie_embeddings: false moe { num_experts: 4 d_ff: 24 }",
             "", "embedding"},
        Case{"LearnedPositions",
             "d_ff: 24 tie_embeddings: false "
             "attention { num_heads: 4 position: LEARNED_POSITIONS }",
             "", "position_embedding"},
        Case{"SharedBias",
             "d_ff: 24 tie_embeddings: false "
             "attention { num_heads: 4 position: RELATIVE_BIAS }",
             "relative_bias", "embedding"},
        Case{"Lstm",
             "architecture: LSTM_LM lstm { hidden: 9 } dropout: 0.1 tie_embeddings: false "
             "moe { num_experts: 4 d_ff: 24 every_n_layers: 2 }",
             "", "embedding"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace switchyard::models
