// What the tiny models of every architecture are made of.

#include <algorithm>

#include <gtest/gtest.h>

#include "models/inspect/census.h"
#include "models/model.h"
#include "parallel/single.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::testing {
namespace {

// By their names: norms' weights end in "norm", and one matrix is the embedding.
TEST(Parameters, TellNormsAndTheEmbeddingFromTheRest) {
  const auto world = parallel::make_single();
  for (const auto tiny : {tiny_config, tiny_lstm_lm, tiny_encoder_decoder, tiny_local_experts}) {
    const config::RunConfig config = tiny();
    const parallel::Mesh mesh(*world, MeshShape());
    ParameterTable table;
    const models::Model model(Scope(table), config.model(), mesh);
    for (const Parameter& parameter : table.parameters()) {
      const bool is_norm = parameter.name.ends_with("norm");
      const bool is_embedding = parameter.name == "embedding";
      EXPECT_EQ(parameter.role == Role::kNorm && parameter.use == Use::kScale, is_norm)
          << parameter.name;
      EXPECT_EQ(parameter.role == Role::kEmbedding, is_embedding) << parameter.name;
    }
  }
}

TEST(Census, CountsTheLstmsOfThePaper) {
  config::Model model = tiny_lstm_lm().model();  // hidden 20, projected to 16
  const models::Census counts = models::census(model);
  const auto lstm = std::ranges::find(counts.components, "lstm", &models::Component::name);
  ASSERT_NE(lstm, counts.components.end());
  EXPECT_EQ(lstm->total, 2 * (4 * 20 * (16 + 16) + 4 * 20 + 16 * 20));
}

}  // namespace
}  // namespace switchyard::testing
