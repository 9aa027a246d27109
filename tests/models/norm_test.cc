#include "models/layers/norm.h"

#include <gtest/gtest.h>

#include "core/tensor/aten.h"
#include "tests/testing/near.h"

namespace switchyard::models {
namespace {

using switchyard::testing::is_near;

struct Instance {
  explicit Instance(const NormOptions& options, at::ScalarType type = at::kDouble)
      : norm(Scope(table), "n", options, 12) {
    table.allocate(type);
    table.initialize(1);
    for (Parameter& parameter : table.parameters()) {
      parameter.master.copy_(at::linspace(0.5, 2, 12, at::kDouble));
      parameter.value.detach().copy_(parameter.master);
    }
  }
  ParameterTable table;
  Norm norm;
};

at::Tensor rows() {
  at::manual_seed(3);
  return at::randn({5, 12}, at::kDouble) * 3 + 1;
}

TEST(Norm, OfAllKindsEqualsItsFormula) {
  const at::Tensor x = rows(), w = at::linspace(0.5, 2, 12, at::kDouble);
  const at::Tensor rms = x / (x.square().mean(1, true) + 1e-5).sqrt();
  const at::Tensor centred = x - x.mean(1, true);
  const at::Tensor standard = centred / (centred.square().mean(1, true) + 1e-5).sqrt();
  const auto forward = [&](config::Norm kind) {
    return Instance({kind, config::SCALE_THEN_CAST, 1e-5}).norm.forward(x);
  };
  EXPECT_TRUE(is_near(forward(config::RMS_NORM), rms * w));
  EXPECT_TRUE(is_near(forward(config::LAYER_NORM_NO_BIAS), standard * w));
  EXPECT_TRUE(is_near(forward(config::LAYER_NORM), standard * w + w));
}

TEST(Norm, RoundsWhereItsCastOrderSays) {
  const at::Tensor x = rows().to(at::kBFloat16),
                   w = at::linspace(0.5, 2, 12, at::kDouble).to(at::kBFloat16);
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor unit = wide * (wide.square().mean(1, true) + 1e-5).rsqrt();
  const auto forward = [&](config::NormCast cast) {
    return Instance({config::RMS_NORM, cast, 1e-5}, at::kBFloat16).norm.forward(x);
  };
  const at::Tensor once = (unit * w.to(at::kFloat)).to(at::kBFloat16);
  const at::Tensor twice = unit.to(at::kBFloat16) * w;
  EXPECT_FALSE(at::equal(once, twice));
  EXPECT_TRUE(at::equal(forward(config::SCALE_THEN_CAST), once));
  EXPECT_TRUE(at::equal(forward(config::CAST_THEN_SCALE), twice));
}

}  // namespace
}  // namespace switchyard::models
