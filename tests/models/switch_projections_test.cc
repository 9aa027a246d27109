#include "models/switch_projections.h"

#include <gtest/gtest.h>

#include "core/base/errors.h"
#include "core/tensor/aten.h"
#include "parallel/single.h"
#include "tests/testing/finite_differences.h"
#include "tests/testing/near.h"
#include "tests/testing/tiny_model.h"

namespace switchyard::models {
namespace {

using switchyard::testing::expect_gradient;
using switchyard::testing::is_near;

constexpr int64_t kTokens = 10;

struct Projections {
  Projections() {
    model = switchyard::testing::tiny_config().model();
    model.mutable_attention()->set_switch_projections(true);
    model.mutable_moe()->set_top_k(1);
    model.mutable_moe()->mutable_router()->set_weighting(config::RAW);
    model.mutable_moe()->mutable_router()->set_input_jitter(0);
    model.mutable_moe()->mutable_capacity()->set_policy(config::NO_DROP);
    world = parallel::make_single();
    mesh.emplace(*world, MeshShape());
    layer.emplace(Scope(table, mesh->layout()) / "attention", model, *mesh, 0, 0);
    table.allocate(at::kDouble);
    table.initialize(3);
    at::manual_seed(2);
    x = at::randn({kTokens, model.d_model()}, at::kDouble);
  }
  Parameter& parameter(const std::string& name) {
    for (Parameter& p : table.parameters()) {
      if (p.name == name) return p;
    }
    throw CheckError("no parameter " + name);
  }
  at::Tensor forward(bool training) const {
    StepContext context;
    context.training = training;
    context.group_tokens = context.count.in_step = context.count.in_micro_batch = kTokens;
    RoutingDecision decision;
    return layer->forward(x, context, decision);
  }

  config::Model model;
  std::unique_ptr<parallel::Communicator> world;
  std::optional<parallel::Mesh> mesh;
  ParameterTable table;
  std::optional<SwitchProjections> layer;
  at::Tensor x;
};

TEST(SwitchProjections, AreEachTheBestExpertsMatrixTimesItsProbability) {
  Projections projections;
  const at::Tensor actual = projections.forward(false);
  std::vector<at::Tensor> rows;
  for (int64_t t = 0; t < kTokens; ++t) {
    std::vector<at::Tensor> parts;
    for (const std::string name : {"query", "key", "value"}) {
      const at::Tensor router =
                           projections.parameter("attention." + name + ".router.weight").master,
                       weight =
                           projections.parameter("attention." + name + ".experts.weight").master;
      const at::Tensor p = at::mv(router, projections.x[t]).softmax(0);
      const int64_t best = p.argmax().item<int64_t>();
      parts.push_back(p[best] * at::mv(weight[best], projections.x[t]));
    }
    rows.push_back(at::concat(parts));
  }
  EXPECT_TRUE(is_near(actual, at::stack(rows)));
}

TEST(SwitchProjections, HaveTheGradientsOfFiniteDifferences) {
  Projections projections;
  projections.model.mutable_moe()->mutable_balance_loss()->set_coefficient(0);
  const at::Tensor probe = at::randn(projections.forward(false).sizes(), at::kDouble);
  (projections.forward(false) * probe).sum().backward();
  const auto value = [&] {
    const at::NoGradGuard no_grad;
    return (projections.forward(false) * probe).sum().item<double>();
  };
  for (Parameter& parameter : projections.table.parameters()) {
    SCOPED_TRACE(parameter.name);
    expect_gradient(parameter.master, parameter.grad, value, {.most_elements = 20});
  }
}

}  // namespace
}  // namespace switchyard::models
